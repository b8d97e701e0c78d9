"""Golden samples of a station's product: pictures of parts that a person named, kept as sets with versions.

Imports versions and what is below it: the region they are cut to, the reference that is built of them.
The main thread of `mekiki golden` and `mekiki commission`; an agent that runs only reads.
"""
