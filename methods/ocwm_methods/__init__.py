"""Methods: C-JEPA and OC-JEPA."""
