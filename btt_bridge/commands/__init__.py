"""The commands of each part of the accounts, one file each; `cli` gathers them."""
