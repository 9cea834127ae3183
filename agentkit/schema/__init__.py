"""JSON Schema: values checked within bounds, and schemas made from signatures and types."""
