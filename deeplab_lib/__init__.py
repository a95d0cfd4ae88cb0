"""DeepLabV2 on Cityscapes under eight loss configurations."""
