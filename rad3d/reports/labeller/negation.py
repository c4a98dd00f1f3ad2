"""Scopes of negation and of uncertainty in a sentence.

A negation cue has a scope, as in NegEx (Chapman et al., J Biomed Inform 2001): forwards from
"no", "without", ..., backwards from "was not seen", "has resolved", ..., up to the next word that
ends it, such as "but", or a comma after a finite verb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEEN = (
    r"(?:observed|detected|seen|found|identified|noted|noticed|present|demonstrated|visuali[sz]ed"
    r"|evident|appreciated|distinguished|encountered|determined|selected|followed|monitored|shown"
    r"|watched|recogni[sz]ed|depicted|apparent|visible|discern(?:ed|ible)|available|reported"
    r"|chosen|recorded|revealed|discovered|made out|in evidence|obtained|displayed|demonstrable"
    r"|delineated|reproduced|reproducible|traceable|definable|a feature|confirmed)"
)
_BE = r"(?:is|are|was|were|be|has been|have been|had been|can be|could be|has|have)"
_ADVERB = r"(?:\s+(?:also|now|currently|clearly|still|again|definitely|been|any|\w+ly))*"

_PRIOR = (
    r"(?:(?:the|an?|his|her|their) )?(?:patient's )?(?:previous|prior|earlier|former|old|last"
    r"|outside|preceding|initial|baseline) (?:chest |thora\w+ )?(?:ct|pet|mri|scans?|stud(?:y|ies)"
    r"|exam\w*|imaging|radiographs?|x-?rays?|tomogra\w+|hrct)(?:[ /-]ct| scan| study| exam\w*)?"
    r"(?: of the patient| (?:of|from|dated|on|in) [\w./-]+(?: \w+ \d+| \d+)?)?"
)
_NOT_KEPT = (
    r"(?!.*\b(?:unchanged|stable|persist\w*|still|now (?!resol|clear|gone|no|abs)|larger|smaller"
    r"|increas\w*|decreas\w*|grow\w*|progress\w*|remain\w*|regress\w* partial\w*)\b)"
)
"""Findings of an earlier scan are past, unless the sentence says more about them."""

_PSEUDO = re.compile(
    r"\b(?:(?:no|not|without|nor)(?:\s+(?:any|a|an|much|definite|significant\w*|obvious|interval"
    r"|marked"
    r"|relevant|appreciable|substantial|convincing|real|further|show|shown|showing|demonstrate"
    r"|meaningful|clear|major|important|notable|evidence of|statistically|size|dimensional|other"
    r"|differ\w*))*\s+(?:changed?|changes|differences?|differ\w*|progression"
    r"|increased?(?!\s+in\s+(?:[\w-]+\s+){0,3}?(?:thick|densit|heart|cardi|ctr)\w*)"
    r"|decreased?"
    r"|growth|enlargement of|alteration|regression|variation|interval change|progress\w*)\b"
    r"(?:\s+(?:or|and)\s+\w+)?"
    r"|not\s+(?:only|exclud\w*|ruled|be\s+(?:excluded|ruled)|reach\w*|pathological\w*|enlarged"
    r"|optimal\w*|certain|clear|specific|thought|considered)\b"
    r"|(?:cannot|could not|can not|couldn't|can't|not)\s+(?:be\s+)?(?:\w+ly\s+)?"
    r"(?:excluded?|ruled? out|evaluated|assessed|measured|clearly \w+"
    r"|(?:distinguished|separated|differentiated) (?:from|between))\b"
    r"|(?:unable|difficult|impossible|inadequate|insufficient|hard|not possible) to (?:\w+ly )?"
    r"(?:exclude|rule out)\b"
    r"|(?:almost|near|nearly|largely|mostly|partial|partially|partly|incomplete|incompletely"
    r"|substantial|substantially)(?:[- ](?:complete|completely|entirely|fully|total|totally))?\s+"
    r"(?:resol|regress|clear|disappear|resor)\w+"
    r"|not (?:\w+ed|seen|present|visible|there) (?:previously|before|earlier)\b"
    r"|(?:not|never) (?:(?:yet|\w+ly) )*(?:resolved|cleared|disappeared|regressed|gone)\b"
    r"|^(?:(?:an?|small|large|mild|moderate) )?(?:left|right)(?:-sided)?(?:,? but|,| and)"
    r" (?:no|not)(?=,? (?:left|right)\b)"
    r"|(?:left|right)(?: \w+){0,2} (?:shows|show|has|have) none\b"
    r"|no doubt\b|no longer (?:enlarg|increas)\w*"
    r"|(?:which|that)?\s*(?:(?:is|are|was|were|had been|have been)\s+)?"
    r"(?:\w+ed|seen|newly seen|present|new)\s+(?:in|on|at|during)\s+(?:the\s+|his\s+|her\s+|a\s+)?"
    r"(?:patient's\s+)?(?:previous|prior|old|earlier|last|former|preceding)\b"
    r"(?:(?!\b(?:is|are|was|were|has|have|shows?|in the current)\b)[^,;)])*)"
)
_FORWARD = re.compile(
    r"\b(?:(?:no|without|absence of|free of|free from|negative(?: \w+)? for|neither|nor|none of"
    r"|lack of|devoid of|(?:resolution|resorption|clearance|clearing|disappearance|removal"
    r"|extraction|resection|excision|withdrawal|(?:complete|total) regression) of"
    r"|nothing to suggest|not any|clear(?:ed)? of"
    r"|fails? to (?:show|demonstrate|reveal)|(?:do|does|did)(?: not|n't)(?:\s+\w+ly)? (?:show|have"
    r"|demonstrate|reveal|contain|exhibit|display|see|include|identify|find)|no longer"
    r"|(?:to|can) (?:exclude|rule out)"
    r"|(?:cannot|can not|could not|can't|couldn't|unable to) (?:see|find|identify|detect)"
    r"|rules? out|excludes?|not associated with|rather than"
    r"|instead of|not accompanied by|not due to)\b|^absent\b:?|^not an?\b|(?:this|it"
    r"|which) (?:is|was) not"
    r" (?=(?:an? )?\w+\b)(?!" + _SEEN + r")(?! \w+ly\b)"
    r"|previously (?:observed|described|seen) as\b"
    r"|there (?:is|are|was|were) (?=(?:(?!\b(?:is|are|was|were|which|that|than|to|with"
    r"|no)\b)[^,;()])*"
    r"\b(?:in|on) (?:the )?(?:previous|prior|earlier|last) (?:examination|ct|study|scan)\b)"
    r"|resolved (?<!has resolved )(?<!have resolved )(?<!completely resolved )(?<!been resolved )"
    r"(?<!now resolved )(?=\w))"
    r"|(?:[,;] |^)(?:(?:in|on|at|during) "
    + _PRIOR
    + r",? (?:there (?:is|are|was|were)|(?=an?\b))|"
    + _PRIOR
    + r" (?:had )?(?:showed|demonstrated|revealed|depicted)"
    r"|(?:at (?:the|that) time|formerly|in (?:19|20)\d\d),? there (?:was|were))\b" + _NOT_KEPT
)
_BACKWARD = re.compile(
    r"\b(?:(?:"
    + _BE
    + r"(?:\s+\w+ly)?\s+(?:not|never)|(?:is|are|was|were|has|have|could|can|do|does)n't"
    r"|cannot|can not|could not|(?:does|did|do) not|not(?<=[\s,]not))"
    + _ADVERB
    + r"(?:\s+be)?(?:\s+(?:been|clearly|to be))*\s+(?:"
    + _SEEN
    + r"|exist\w*|occur\w*|appear\w*|persist\w*|develop\w*|recur\w*)"
    r"|(?:is|are|was|were|be|been)\s+(?:\w+ly\s+)?(?:absent|excluded|ruled out|negative"
    r"|unremarkable"
    r"|within normal limits|undetectable|gone|no longer (?:present|" + _SEEN + r"))"
    r"|(?:was|were|been)\s+(?:\w+ly\s+)?(?:removed|taken out|explanted|extracted|withdrawn"
    r"|resected"
    r"|excised)\b"
    r"|(?:has|have|had)\s+(?:now\s+|since\s+|completely\s+|fully\s+|entirely\s+|all\s+)*"
    r"(?:resolved|disappeared|cleared|vanished|resorbed|gone|re-?expanded|been replaced by)"
    r"|(?:completely|fully|totally)\s+(?:resolved|regressed|disappeared|resorbed|cleared)"
    r"|regressed (?:completely|fully|totally)"
    r"|no longer(?:\s+"
    + _BE
    + r")?\s+"
    + _SEEN
    + r"|disappeared\b|turned out to be\b|not "
    + _SEEN
    + r"\s*$"
    r"|absent\s*$|removal\s*\.?\s*$"
    r"|(?:resolved|removed|resected|excised|ruled out|gone)\s*(?=[.,;]|$|in \d)"
    r"|corresponds? to (?:an? )?(?:\w+ )?(?:vessel|art[ei]fact|nipple)\b|(?:"
    + _BE
    + r"|felt to be|thought to be) (?:\w+ly )?unlikely)"
    r"|[:(]\s*(?:none|no|absent|negative|nil|not (?:seen|present)|resolved|unlikely)\b"
    r"|[\s,](?:(?<=\s)[-–]\s*no \w+(?=\s+(?:was|were|is|are)\b)"
    r"|(?:(?<=\s)-|(?<=,))?\s*(?<=\s)(?:absent|none)\s*\.?\s*$)"
)
_POSITIVE_VERB = (
    r"\b(?:is|are|was|were|has been|have been)\s+(?:(?:also|again|still|now|\w+ly)\s+)*"
    r"(?:" + _SEEN + r"|remarkable|normal|preserved|natural|stable|unchanged|unremarkable"
    r"|patent|open|clear|intact|thickened|increased|enlarged|dilated)|\bthere (?:is|are)\b"
    r"|\bpresent\b"
)
_STOP_FORWARD = re.compile(
    r"\b(?:but|however|although|though|except|apart from|other than|aside from|besides|yet|while"
    r"|whereas|despite|nevertheless|only|beyond|presence of|positive for|(?:this|it) (?:is"
    r"|was))\b|[;:]"
    r"|(?:" + _POSITIVE_VERB + r"|\b" + _SEEN + r"\b)[^,;]{0,80}?"
    r"(?:,|\band\s+(?=there\b|an?\b|the\b|\w+ (?:is|are|was|were)\b|mild|moderate|severe|minimal"
    r"|few|multiple|several|small|in\b))"
    r"|(?:,|\band\b)\s+(?=(?:with\s+|and\s+|there\s+|also\s+)*(?:mild|moderate|severe|minimal"
    r"|trace"
    r"|residual|persistent|minor"
    r"|marked|slight|stable|unchanged|few|multiple|several|there (?:is|are)|an?\b|calcific"
    r"|calcified|large|small|increased|new|known|again|diffuse|scattered|extensive)\b)"
    r"|\b(?:with|showing|demonstrating)\s+(?=(?:mild|moderate|severe|minimal|an? |stable|small"
    r"|residual"
    r"|remaining|persist))"
    r"|\bwhich (?:is|are|was|were) (?!not)"
    r"|(?:,|\band\b) (?=\d+(?:[.,]\d+)? ?(?:mm|cm)\b)"
    r"|, (?=(?:(?!or\b|nor\b|and\b)[\w-]+ ){1,3}(?:is|are) (?:also )?present\b)"
)
_STOP_BACKWARD = re.compile(
    r"\b(?:but|however|although|though|while|whereas|yet|and there (?:is|are))\b|[;:]"
    r"|(?:" + _POSITIVE_VERB + r")[^,;.()]{0,80}?(?:,|\band\b)"
    r"|\b(?:stable|unchanged|improved|persist\w*)\s*,"
    r"|\bexcept (?:for )?[^,]*,|\b(?:apart|aside) from [^,]*,|\bother than [^,]*,"
    r"|\b(?:no|without|nor)\b[^,]*,(?! or| and)"
)
_HEDGE = re.compile(
    r"\b(?:possib\w*|probab\w*|likely|suspect\w*|suspicio\w*|may|might|could (?:be|represent)"
    r"|can be compatible|questionabl\w*|question of|concern\w*|suggest\w*|equivocal|presumed"
    r"|presumably|potential\w*|perhaps|favou?r(?:s|ed)|raises?|differential|appears? to|borderline"
    r"|query|versus|vs|unlikely|(?:cannot|can not|could not|unable to|difficult to) "
    r"(?:exclude|rule out))\b"
)
_HEDGE_AFTER = re.compile(
    r"\?|\b(?:(?:cannot|can not|could not|not) (?:be )?(?:fully |entirely )?(?:excluded|ruled out)"
    r"|(?:is|are|was|were) (?:\w+ly )?(?:possible|probable|suspected|questionable|likely"
    r"|uncertain"
    r"|presumed|suggested|equivocal|considered)\b|(?:possible|probable|suspected)\W*$)"
)


@dataclass(frozen=True)
class Polarity:
    """The denied spans of one sentence, and where hedges stand that look forwards or backwards."""

    denied: tuple[tuple[int, int], ...]
    hedges: tuple[int, ...]
    later_hedges: tuple[int, ...]

    def is_denied(self, end: int) -> bool:
        """Whether a term that ends at ``end`` does so in the scope of a negation."""
        return any(a < end <= b for a, b in self.denied)

    def is_hedged(self, before: int, start: int, end: int) -> bool:
        """Whether a hedge leads up to a term at ``start``, or follows it within its clause.

        Args:
            before: end of the term before, which has its own hedges.
            start: first character of the term.
            end: end of the clause.
        """
        return any(before <= a < start for a in self.hedges) or any(
            start <= a < end for a in self.later_hedges
        )


def blank(pattern: re.Pattern[str], text: str) -> str:
    """``text`` with every match of ``pattern`` replaced by as many spaces."""
    return pattern.sub(lambda found: " " * len(found.group()), text)


def polarity(sentence: str) -> Polarity:
    """Reads the negations and hedges of a lower-case sentence."""
    hedges = tuple(found.start() for found in _HEDGE.finditer(sentence))
    later = tuple(found.start() for found in _HEDGE_AFTER.finditer(sentence))
    text = blank(_PSEUDO, sentence)
    denied: list[tuple[int, int]] = []
    settled = 0
    for cue in _FORWARD.finditer(text):
        if cue.end() <= settled:  # what ends the cue before ends this one as well
            continue
        stop = _STOP_FORWARD.search(text, cue.end())
        settled = stop.start() if stop else len(text)
        denied.append((cue.start(), stop.end() if stop else len(text)))
    for cue in _BACKWARD.finditer(text):
        start = 0
        for stop in _STOP_BACKWARD.finditer(text, start, cue.start()):
            start = stop.end()
        denied.append((start, cue.end()))
    return Polarity(tuple(denied), hedges, later)
