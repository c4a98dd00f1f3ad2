"""CT-CLIP (Hamamci et al. 2024, arXiv 2403.17834): its CT-ViT, image latent and LiPro head.

Written from the published description of the computation, not from the published code; it reads
the published weights and gives the published outputs. Only what image inference needs is here:
178.6 of the 332.9 million elements that a LiPro checkpoint holds besides its text encoder.
"""
