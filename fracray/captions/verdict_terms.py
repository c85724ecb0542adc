"""The phrases by which a report says that there is a fracture, that there is none, or that it is not known.

In a phrase, `*` stands for any ending of a word, `~` for up to three words, `$` for the end of a clause. Text
is compared in lower case, with "cannot" for "can't" and "can not", "not" for "n't", "query" for a question
mark, and spaces around colons and commas.
"""

FRACTURES = (
    "fractur*", "fracture-dislocation*", "refractur*", "microfractur*", "fx", "fxs", "fratur*", "fractre*",
    "fracure*", "fratcur*", "broken", "break", "breaks", "cort* disrupt*", "disrupt* of the ~ cort*",
    "disrupted", "cort* breach*", "cort* discontinuit*", "discontinuit* of the ~ cort*", "step-off",
    "step off", "interrupted cort*", "cort* is interrupted", "buckling", "buckle", "buckled", "torus",
    "greenstick", "avulsion*", "avulsed", "salter-harris", "not intact", "not continuous",
)  # fmt: skip

NOT_FRACTURES = (
    "fracture fixation", "fracture clinic", "fracture risk", "fracture blister*", "fracture care",
    "fracture table", "broken screw*", "broken plate*", "broken wire*", "broken nail", "broken hardware",
    "belt buckle*", "break in the ~ skin", "skin break*",
)  # fmt: skip
"""Words of a fracture that speak of something else."""

PSEUDO = (
    "not only", "not just", "no doubt", "not without", "without doubt", "no longer in doubt", "to suggest",
    "no change in", "no change of", "no ~ change in", "no ~ change to", "no ~ healing", "no ~ union",
    "no ~ callus", "without ~ callus", "no ~ displacement of", "no ~ displacement at",
    "without ~ displacement of", "no ~ angulation of", "no ~ angulation at", "without ~ angulation of",
    "no ~ extension of", "no ~ shortening of", "no ~ rotation of", "no ~ loss of reduction",
    "no ~ loss of position", "not changed", "partially united", "partially healed", "incompletely united",
    "incompletely healed", "not healed", "not united", "not yet healed", "not yet united",
    "not completely healed", "acute on chronic", "acute on old", "previously described", "previously seen",
    "previously noted", "previously reported", "previously demonstrated", "previously identified",
    "previously known", "prior stud*", "prior exam*", "prior radiograph*", "prior film*", "prior image*",
    "previous stud*", "previous exam*", "previous radiograph*", "previous film*", "previous image*",
    "not normal", "not unremarkable", "not entirely normal",
)  # fmt: skip
"""Phrases with a word of negation or of age that neither deny a fracture nor make it an old one."""

ENDS = (
    "but", "however", "although", "though", "except*", "other than", "apart from", "aside from", "besides",
    "yet", "whereas", "while", "and there is", "and there are", "and a", "and an", "and the", ", a", ", an",
    ", the", ", there is", ", there are", ", and the", "secondary to",
)  # fmt: skip
"""What ends the reach of a negation, as the end of a sentence does."""

DENIED_BEFORE = (
    "no", "not", "without", "neither", "nor", "nil", "never", "cannot", "absence of", "lack of",
    "negative for", "free of", "free from", "exclude", "excludes", "excluded", "excluding", "rules out",
    "ruled out", "ruling out", "fail* to", "unable to see", "unable to identify", "nothing", "lacks",
    "lacking", "devoid of", "rather than", "instead of", "not be mistaken for", "mimicking", "simulating",
    "unlikely", "denies",
)  # fmt: skip
DENIED_AFTER = (
    "not seen", "not ~ seen", "not ~ identified", "not ~ visible", "not ~ present", "not ~ evident",
    "not ~ detected", "not ~ found", "not ~ demonstrated", "not ~ shown", "not ~ apparent",
    "not ~ visualized", "not ~ visualised", "not ~ appreciated", "not ~ noted", "not ~ observed",
    "not ~ recognised", "not ~ recognized", "not ~ discern*", "not ~ depicted", "not ~ suspected",
    "cannot be ~ seen", "cannot be ~ identified", "cannot be ~ found", "cannot be ~ detected",
    "no longer ~ visible", "no longer seen", "excluded", "ruled out", "absent", "unlikely", ": none",
    "- none", ": no $", ": nil $", ": negative $", ": false $",
)  # fmt: skip

DOUBTED_BEFORE = (
    "cannot ~ exclude*", "not ~ exclude", "not ~ rule out", "cannot ~ rule* out", "unable to exclude",
    "unable to rule out", "difficult to exclude", "difficult to rule out", "possible", "possibly",
    "probable", "probably", "suspicious for", "suspicious of", "suspicion of", "suspicion for", "suspected",
    "questionable", "equivocal", "may", "might", "could", "concern for", "concerning for", "worrisome for",
    "suggestive of", "suggesting", "suggest", "suggests", "likely", "possibility of", "query", "versus",
    "vs", "potential", "potentially", "perhaps", "presumed", "doubtful", "suspicion", "worrying for",
    "indeterminate for", "inconclusive for", "unclear whether", "unclear if", "uncertain whether",
    "uncertain if", "unsure whether", "no evidence that * is no", "no evidence there is no",
)  # fmt: skip
DOUBTED_AFTER = (
    "cannot be ~ excluded", "cannot ~ be excluded", "cannot be ~ ruled out", "not ~ excluded",
    "not ~ ruled out", "difficult to exclude", "difficult to rule out", "is possible", "are possible",
    "remains possible", "is suspected", "are suspected", "suspected", "is likely", "is probable",
    "is questionable", "is equivocal", "not certain", "uncertain", "is unclear", "is doubtful",
    "not ~ confirmed", "cannot be ~ confirmed", "may be present", "might be present", "could be present",
    "a possibility", "a consideration", "be considered", "or artefact", "or artifact", "versus", "vs",
    "query", "possible",
)  # fmt: skip

SUPPOSED = (
    "if", "to exclude", "to rule out", "rule out", "to assess for", "assess for", "evaluate for",
    "to look for", "evaluation for", "evaluation of", "evaluating for", "correlat* for", "follow-up for",
    "in the event of", "to confirm", "to detect", "should a", "should an", "should any", "should there",
    "in case of", "can exclude", "may exclude", "could exclude", "can rule out", "may rule out",
    "concern persists for",
)  # fmt: skip
"""Advice, questions and conditions: a fracture that is only thought of."""

OLD_BEFORE = (
    "old", "healed", "previous", "previously", "prior", "remote", "chronic", "former", "united",
    "consolidated", "history of", "status post", "long-standing", "longstanding", "well-healed",
    "malunited", "sequela* of",
)  # fmt: skip
OLD_AFTER = (
    "healed", "united", "consolidated", "is old", "are old", "is chronic", "appears old", "appears chronic",
    ", old",
)  # fmt: skip

NORMAL = (
    "normal", "unremarkable", "intact", "nad", "within normal limits", "no ~ abnormalit*", "no ~ injur*",
    "no ~ trauma*", "no acute findings", "no acute finding", "negative stud*", "negative exam*",
    "negative radiograph*", "negative film*", "unfractured", "non-fractured", "unbroken", "no ~ patholog*",
)  # fmt: skip
BONES = ("bone", "bones", "bony", "osseous", "skelet*", "cort*")
NOT_BONES = (
    "bone density", "bone mineral*", "mineralisation", "mineralization", "soft tissue*", "joint*",
    "alignment", "effusion", "hardware", "plate", "plates", "screw*", "nail", "wire*", "implant*",
    "prosthesis", "skin", "muscle*", "lung*", "growth plate*", "ligament*",
)  # fmt: skip
"""What may be normal without a word about fractures, unless bones are named beside it."""
