"""Which recipes to try first: learnt from the outcomes of earlier studies, measured by leaving baselines out."""
