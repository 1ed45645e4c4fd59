"""The Helm chart, rendered offline and held to Kubernetes, to the product and to its own pages."""
