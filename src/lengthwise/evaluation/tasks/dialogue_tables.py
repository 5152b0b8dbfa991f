"""What the dialogues of `dialogues.py` are made of: groceries, plain questions, short talks."""

from __future__ import annotations

GROCERIES: tuple[str, ...] = (
    "chocolate", "olive oil", "brown rice", "tomatoes", "cheddar cheese", "green tea", "noodles",
    "honey", "frozen peas", "yoghurt", "black pepper", "walnuts", "lemons", "butter", "mushrooms",
    "strawberry jam", "oat flakes", "carrots", "canned tuna", "flour", "ginger", "pickles",
    "almond milk", "potatoes", "cinnamon", "grapes", "mustard", "eggs", "spinach", "raisins",
)  # fmt: skip

# A question, its answer first and then what is wrong.
PLAIN: tuple[tuple[str, ...], ...] = (
    ("Where do people usually keep milk cold?", "fridge", "oven", "attic", "garage"),
    ("What do you use to open a locked door?", "key", "spoon", "pillow", "ladder"),
    ("Which of these falls from clouds?", "rain", "sand", "bricks", "grass"),
    ("Where would you borrow a novel?", "library", "bakery", "bank", "stadium"),
    ("What does a fish need to breathe in?", "water", "smoke", "oil", "dust"),
    ("What do you wear on cold hands?", "gloves", "glasses", "belt", "sandals"),
    ("Which animal gives us wool?", "sheep", "frog", "goose", "snake"),
    ("What do bees make?", "honey", "bread", "paper", "glass"),
    ("Where does a train stop for passengers?", "station", "harbour", "kitchen", "field"),
    ("What do you look at to know the time?", "clock", "mirror", "carpet", "lamp"),
    ("Who repairs teeth?", "dentist", "tailor", "pilot", "baker"),
    ("What do you write with?", "pencil", "fork", "towel", "bucket"),
    ("Where do planes land?", "airport", "cellar", "theatre", "bridge"),
    ("Which of these is a season?", "autumn", "Monday", "noon", "decade"),
    ("What keeps you dry in the rain?", "umbrella", "fan", "curtain", "candle"),
    ("What do cows mostly eat?", "grass", "meat", "paper", "stones"),
    ("Where do actors play?", "theatre", "garage", "post office", "pharmacy"),
    ("What do you put on a letter before you send it?", "stamp", "salt", "ribbon", "nail"),
    ("Which of these do you plant?", "seed", "coin", "button", "plate"),
    ("What is used to cut paper?", "scissors", "broom", "kettle", "rope"),
    ("Where do you sleep at home?", "bedroom", "hallway", "balcony", "garage"),
    ("What do you need to see in the dark?", "torch", "hammer", "scarf", "basket"),
    ("Who flies a plane?", "pilot", "farmer", "judge", "nurse"),
    ("What grows on an apple tree?", "apples", "potatoes", "nails", "feathers"),
    ("Which of these is frozen water?", "ice", "steam", "sugar", "chalk"),
    ("What do you use to eat soup?", "spoon", "comb", "needle", "brush"),
    ("Where is money kept safe?", "bank", "park", "kitchen", "beach"),
    ("What shows you a way through a city?", "map", "menu", "song", "recipe"),
    ("Which of these can a child ride?", "bicycle", "pillow", "bottle", "window"),
    ("What does a gardener dig with?", "spade", "ruler", "violin", "purse"),
)

# Talks of four remarks; each remark answers the one before it.
TALKS: tuple[tuple[str, str, str, str], ...] = (
    ("Did you find a flat near the office?", "Yes, a small one above a bakery.",
     "That must smell wonderful in the morning.", "It does, but they start at three at night."),
    ("The printer has stopped again.", "Did you look whether it has paper?",
     "It has paper, and the red light is on.", "Then the toner is empty. I'll bring a new one."),
    ("I would like to return this jacket.", "Do you have the receipt with you?",
     "Here it is. The zip broke on the second day.", "I'm sorry. I can give you another one."),
    ("How was your trip to the mountains?", "Wet. It rained on five days of seven.",
     "And on the other two?", "On those we saw the glacier, and it was worth it all."),
    ("Can you recommend anything on the menu?", "The fish is fresh, it came in this morning.",
     "I'm afraid I don't eat fish.", "Then take the pumpkin soup, everybody likes it."),
    ("My son has had a fever since yesterday.", "How high was it when you measured last?",
     "Thirty-nine degrees, an hour ago.", "Please bring him in, the doctor will see him at once."),
    ("Is this seat taken?", "No, please sit down.",
     "Thank you. Do you know when we arrive?", "At ten past six, if the bridge is open."),
    ("You play the cello, don't you?", "I did, until I hurt my hand.",
     "Will you be able to play again?", "In spring, if I do my exercises."),
    ("We need one more player for Sunday.", "I haven't played since school.",
     "You only have to keep the goal.", "All right, but don't blame me afterwards."),
    ("Have you seen my glasses?", "You are wearing them.",
     "So I am. What did I want to read?", "The letter from the bank, on the table."),
    ("How much is the blue vase?", "Forty. It was made by a potter in the village.",
     "Would you take thirty for it?", "Thirty-five, and I pack it well for you."),
    ("Your lecture was very clear.", "Thank you. Was the part on tides too long?",
     "No, that was the one I understood.", "Then I'll draw the same picture next year."),
)  # fmt: skip
