"""How fast is it, beside its peers? Every figure is made by a command here, in one run."""
