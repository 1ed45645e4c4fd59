"""How a version is shipped: the wheel, the chart and the image, and the image's trial."""
