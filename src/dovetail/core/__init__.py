"""The bottom of the product: values and protocols that stages exchange. Imports no stage."""
