"""The names of the dtypes that tensors have."""

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
