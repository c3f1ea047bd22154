"""Checkpoints of LeRobot: what its directories say, and the same as policies of kinema, both ways."""
