"""What the bridge promises, proved: one folder a stage, and the real peers it must get along with."""
