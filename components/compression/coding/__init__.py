"""What codecs are made of: entropy coding, vector codebooks, the Hessian of a layer's output error, waterfilling."""
