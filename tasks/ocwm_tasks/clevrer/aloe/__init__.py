"""The ALOE reasoner: a transformer that reads a video's slots and a question, and answers."""
