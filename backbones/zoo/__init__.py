"""One file a family; a file that defines a ``BackboneSpec`` registers it."""
