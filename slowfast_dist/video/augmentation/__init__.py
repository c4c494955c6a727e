"""How a training clip's picture is varied: affine maps, tables of colours, erased boxes."""
