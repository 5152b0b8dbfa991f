"""Common short English words for the copy probe, nearly all one token in any English vocabulary."""

_WORDS = """
air animal answer apple arm art baby back ball bank bath bed bell bird block blood boat body
bone book bottle bowl box boy brain branch bread brick bridge brother bus butter cake camp car
card cat chain chair chest church circle city clock cloth cloud coat coffee color copper corn
cotton country cow cup curve dance daughter day desk dog door dress drink dust ear earth edge
egg engine eye face farm father feather field finger fire fish flag floor flower food foot
forest fork friend fruit garden girl glass goat gold grain grass group guide hair hammer hand
harbor hat head heart hill history horse hospital hour house ice island jewel judge kettle key
king kitchen knee knife lake land leaf leg letter library light line lip list machine map market
meal meat metal milk minute money month moon morning mother mountain mouth music nail name neck
needle nest night nose number nut ocean office oil orange oven page paint paper park pen pencil
picture pipe plane plant plate pocket pot potato price prison queen rail rain rat ring river
road rock roof room root salt sand school scissors sea seat seed ship shirt shoe silver sister
skin skirt sky snow soap sock song spoon spring square star station stone store storm street
sugar summer sun table tail team thread throat ticket toe tooth town train tree truck trumpet
valley village voice wall watch water wave week wheel window wine wing winter wire woman wood
wool word worm year
"""

COMMON_WORDS: tuple[str, ...] = tuple(_WORDS.split())
