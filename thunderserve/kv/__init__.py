"""KV on its way from a prefill replica to a decode replica: codecs, and the packets that carry them.

Every module file directly in this folder is one codec, named by its file (``int4_rotated.py`` is ``int4-rotated``)
and made by its function ``make``. A new codec is one new file. What codecs share lies in the folders:

- ``wire/``: the contract, the packet, its checks, streams of packets, the catalogue of codecs;
- ``kernels/``: the inner loops, three times over: compiled for the CPU, in Triton for the GPU, and plainly, as the twin of both.

    encoder = Encoder(load("int4"))
    for layer, (k, v) in enumerate(prefilled):         # (tokens, heads, dim), numpy or torch, any strides
        send(encoder.encode(k, v, layer=layer, layers=60))

    layer = Decoder().decode(received)                 # layer.header, layer.k, layer.v
"""
