"""Drafters: what is guessed ahead, one method a file.

copied from text    lookup, copyspec, sam, datastore
learned tables      recycling, aded
the model itself    layers, swift, window, lookahead
another model       model, osd, rapid, rasd, rsd
trained heads       medusa, eagle
"""
