"""fewtable: every cell of the few-shot NER tables as a reproducible file target."""
