"""Where every artifact lives, what it is called, and how it is read and written.

Paths, experiment names, the file formats of the pipeline, atomic writes and the manifest beside each
artifact belong here. Nothing here computes a result, and nothing here imports another room.
"""
