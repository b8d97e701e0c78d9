"""What is measured and how; results are written by the scripts. Not part of the installed agent."""
