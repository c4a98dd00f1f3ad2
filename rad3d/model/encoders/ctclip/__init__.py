"""CT-CLIP (Hamamci et al. 2024, arXiv 2403.17834): its CT-ViT, image latent and LiPro head.

Written from the published description of the computation, not from the published code; it reads
the published weights and gives the published outputs. Only what image inference needs is here:
178.6 of the 332.9 million elements that a LiPro checkpoint holds besides its text encoder.

``layout`` knows the tensors of a checkpoint and tells its sizes, ``checkpoint`` sorts and stores
them, ``network`` computes; :class:`encoder.CtClipEncoder` is the registry's row. docs/published.md
has an example that gives the numbers of every stage for any weights in the published layout.
"""
