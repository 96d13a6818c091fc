"""From the command line to what will be computed: Hydra composes, mistakes are told in lines, every `auto` gets a name."""
