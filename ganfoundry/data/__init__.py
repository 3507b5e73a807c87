"""Seeds, checksummed HDF5 shards, and the data sets made of them."""
