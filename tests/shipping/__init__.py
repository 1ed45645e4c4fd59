"""What is shipped: the wheel, the chart, the image."""
