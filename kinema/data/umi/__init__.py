"""From a handheld gripper's video and trajectory to episodes (UMI, Chi et al. 2024); SLAM itself is an input."""
