"""Do world models know which object influences which? Measured where the truth can be simulated."""
