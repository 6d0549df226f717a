"""Record of all files of the scripts on a tiny data set, by which a change proves that it alters none."""
