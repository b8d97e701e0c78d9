"""Few-shot anomaly detection: what good parts look like, patch by patch, and how far a part is from that.

Imports what is below: claims of the baseline, files. Pure functions over arrays; no torch, no runtime.
Inspector, `mekiki golden`, `mekiki commission` and `mekiki evaluate`.
"""
