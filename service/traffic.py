"""The players that `anabranch simulate` makes up, with effects that are known.

Pure: the same seed, start and rate give the same events, so that a report can be held against what
went in. Time is the simulation's own: event n happens n / rate seconds after the start.

Every session meets `npc_tone` (unit: session), every player `hint_budget` (unit: player):

* npc_tone, warm: output_tokens +6 %, turn_ms -2 %, the chance to complete a session +10 %.
* hint_budget, more: no effect at all. Whoever finds one has found a false positive.
* Growth loop share_story: each player sends 1.5 invitations on average after the first session, and
  one in five is taken up: K = 0.30. Six in ten of those who join reach their first valuable moment.
* 2 % of the turns arrive late, by five minutes on average.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Literal

from anabranch import Event, Exposure, ExposureRef, Invite, Outcome, Pseudonyms, TurnMetric

NPC_TONE = "npc_tone"
HINT_BUDGET = "hint_budget"
EXPERIMENTS = (NPC_TONE, HINT_BUDGET)

OUTPUT_TOKENS_EFFECT = 1.06
TURN_MS_EFFECT = 0.98
COMPLETION_EFFECT = 1.10
BASE_COMPLETION = 0.40

INVITES_AT_MOST, CHANCE_TO_INVITE = 3, 0.5
CHANCE_TO_JOIN = 0.2
CHANCE_OF_FIRST_VALUE = 0.6
K_FACTOR = INVITES_AT_MOST * CHANCE_TO_INVITE * CHANCE_TO_JOIN
LOOP = "share_story"

LATE_SHARE = 0.02
MEAN_LATENESS_MS = 300_000
GREATEST_LATENESS_MS = 3_600_000

TURNS_PER_SESSION = 15
SECONDS_BETWEEN_TURNS = 20
CHANCE_TO_RETURN = 0.7
STEP_DELAY_MS = 5_000  # between the steps of an invitation: a story's days are seconds here
LOCALES, LOCALE_WEIGHTS = ("en", "de", "fr", "pt-BR", "ja"), (50, 15, 12, 13, 10)
PLATFORMS = ("ios", "android", "web")
SOURCE = "simulation"


@dataclass(slots=True)
class Player:
    id: str
    locale: str
    platform: str
    hints: ExposureRef
    has_invited: bool = False


@dataclass(slots=True)
class Session:
    id: str
    player: Player
    exposures: tuple[ExposureRef, ...]
    warm: bool
    turns_left: int
    pace: float  # what this session's turns have in common: they are not independent
    turns: int = 0


@dataclass(slots=True)
class Traffic:
    """An endless, deterministic stream of events. `rate` in events/s, `start_ms` since 1970."""

    seed: int
    start_ms: int
    rate: float
    experiments: Sequence[str] = EXPERIMENTS
    versions: Mapping[str, int] = field(default_factory=dict)
    """Of the experiments' definitions; 1 where it is not told."""
    now_ms: int = 0
    _random: random.Random = field(init=False)
    _pseudonyms: Pseudonyms = field(init=False)
    _numbers: Iterator[int] = field(init=False, default_factory=count)
    _players: list[Player] = field(init=False, default_factory=list)
    _sessions: list[Session] = field(init=False, default_factory=list)
    _ready: deque[Event] = field(init=False, default_factory=deque)
    _later: list[tuple[int, int, Callable[[], None]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.now_ms = self.start_ms
        self._random = random.Random(self.seed)  # noqa: S311  # traffic, not secrets
        self._pseudonyms = Pseudonyms(hashlib.sha256(f"simulation {self.seed}".encode()).digest())

    def events(self) -> Iterator[Event]:
        at_once = max(5, min(100_000, round(self.rate * SECONDS_BETWEEN_TURNS)))
        for number in count():
            self.now_ms = self.start_ms + int(number * 1000 / self.rate)
            while self._later and self._later[0][0] <= self.now_ms:
                heapq.heappop(self._later)[2]()
            while not self._ready:
                if self._wants_a_session(at_once):
                    self._begin_session(self._next_player())
                self._take_turn(self._random.randrange(len(self._sessions)))
            yield self._ready.popleft()

    def _wants_a_session(self, at_once: int) -> bool:
        """Sessions come in among the turns, so that the start is no flood of exposures."""
        open_now = len(self._sessions)
        return open_now == 0 or (open_now < at_once and self._random.random() < 0.15)

    def _next_player(self) -> Player:
        if self._players and self._random.random() < CHANCE_TO_RETURN:
            return self._random.choice(self._players)
        return self._new_player(self._pseudonyms.player(f"player {next(self._numbers)}"))

    def _new_player(self, player_id: str) -> Player:
        # From what the unit is called: the same seed brings the same units, who stay what they are.
        choose = random.Random(player_id)  # noqa: S311  # traffic, not secrets
        player = Player(
            id=player_id,
            locale=choose.choices(LOCALES, LOCALE_WEIGHTS)[0],
            platform=choose.choice(PLATFORMS),
            hints=self._assign(HINT_BUDGET, ("control", "more"), player_id),
        )
        self._players.append(player)
        return player

    def _assign(self, experiment: str, variations: tuple[str, str], unit: str) -> ExposureRef:
        drawn = hashlib.sha256(f"{experiment}/{unit}".encode()).digest()[0]
        return ExposureRef(
            experiment=experiment,
            version=self.versions.get(experiment, 1),
            variation=variations[drawn % 2],
            unit=unit,
        )

    def _begin_session(self, player: Player) -> None:
        session_id = self._pseudonyms.session(f"session {next(self._numbers)}")
        tone = self._assign(NPC_TONE, ("control", "warm"), session_id)
        met = tuple(ref for ref in (tone, player.hints) if ref.experiment in self.experiments)
        self._sessions.append(
            Session(
                id=session_id,
                player=player,
                exposures=met,
                warm=tone.variation == "warm" and NPC_TONE in self.experiments,
                turns_left=1 + int(self._random.expovariate(1 / (TURNS_PER_SESSION - 0.5))),
                pace=self._spread(0.2),
            )
        )
        self._ready.extend(self._exposure(ref, player) for ref in met)

    def _exposure(self, ref: ExposureRef, player: Player) -> Exposure:
        name = f"{ref.experiment}/{ref.version}/{ref.unit}"
        return Exposure(
            event_id=self._event_id(),
            ts=self.now_ms,
            exposure_id=hashlib.sha256(name.encode()).hexdigest()[:32],
            experiment=ref.experiment,
            version=ref.version,
            variation=ref.variation,
            unit=ref.unit,
            locale=player.locale,
            attributes={"platform": player.platform},
            source=SOURCE,
        )

    def _take_turn(self, index: int) -> None:
        session = self._sessions[index]
        self._ready.append(self._turn(session))
        session.turns += 1
        session.turns_left -= 1
        if session.turns_left == 0:
            self._sessions[index] = self._sessions[-1]
            self._sessions.pop()
            self._end_session(session)

    def _turn(self, session: Session) -> TurnMetric:
        choose = self._random
        model_ms = 600 * session.pace * self._spread(0.4)
        turn_ms = (model_ms + 150 * self._spread(0.3)) * (TURN_MS_EFFECT if session.warm else 1)
        tokens = 180 * session.pace * self._spread(0.45)
        late = choose.random() < LATE_SHARE
        lateness = choose.expovariate(1 / MEAN_LATENESS_MS) if late else choose.random() * 200
        return TurnMetric(
            event_id=self._event_id(),
            ts=self.now_ms - min(int(lateness), GREATEST_LATENESS_MS),
            session=session.id,
            player=session.player.id,
            locale=session.player.locale,
            exposures=session.exposures,
            turn_ms=round(turn_ms),
            model_ms=round(model_ms),
            bundle_tokens=round(2000 * self._spread(0.25)),
            output_tokens=round(tokens * (OUTPUT_TOKENS_EFFECT if session.warm else 1)),
            retries=int(choose.random() < 0.02),
            fallbacks=int(choose.random() < 0.005),
            tool_calls=int(choose.random() * 4),
            acts=1 + int(choose.random() * 2),
            choices=2 + int(choose.random() * 3),
            time_ticks=1 + int(choose.random() * 3),
        )

    def _end_session(self, session: Session) -> None:
        player = session.player
        chance = BASE_COMPLETION * (COMPLETION_EFFECT if session.warm else 1)
        completed = self._random.random() < chance
        self._ready.append(
            Outcome(
                event_id=self._event_id(),
                ts=self.now_ms,
                unit=session.id,
                values={"completed": float(completed), "turns": float(session.turns)},
                dimensions={"platform": player.platform},
            )
        )
        if not player.has_invited:
            player.has_invited = True
            self._send_invites(player, session.exposures)

    def _send_invites(self, player: Player, exposures: tuple[ExposureRef, ...]) -> None:
        for _ in range(INVITES_AT_MOST):
            if self._random.random() >= CHANCE_TO_INVITE:
                continue
            number = next(self._numbers)
            invite_id, code = f"inv-{self.seed}-{number}", f"s{number:x}"
            sent = self._invite("sent", player, invite_id, code, exposures, None)
            self._ready.append(sent)
            if self._random.random() < CHANCE_TO_JOIN:
                self._after_a_while(partial(self._join, sent, player, exposures))

    def _join(self, sent: Invite, player: Player, exposures: tuple[ExposureRef, ...]) -> None:
        invitee = self._pseudonyms.player(f"player {next(self._numbers)}")
        invitation = (player, sent.invite_id, sent.smart_link_code, exposures, invitee)
        self._ready.append(self._invite("joined", *invitation))
        self._begin_session(self._new_player(invitee))
        if self._random.random() < CHANCE_OF_FIRST_VALUE:
            self._after_a_while(lambda: self._ready.append(self._invite("fvm", *invitation)))

    def _invite(
        self,
        kind: Literal["sent", "joined", "fvm"],
        player: Player,
        invite_id: str,
        code: str,
        exposures: tuple[ExposureRef, ...],
        invitee: str | None,
    ) -> Invite:
        return Invite(
            event_id=self._event_id(),
            ts=self.now_ms,
            kind=kind,
            invite_id=invite_id,
            loop=LOOP,
            inviter=player.id,
            invitee=invitee,
            smart_link_code=code,
            locale=player.locale,
            exposures=exposures,
        )

    def _after_a_while(self, step: Callable[[], None]) -> None:
        at = self.now_ms + int(self._random.expovariate(1 / STEP_DELAY_MS))
        heapq.heappush(self._later, (at, next(self._numbers), step))

    def _event_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _spread(self, sigma: float) -> float:
        """A log-normal factor with mean 1."""
        return math.exp(self._random.gauss(-sigma * sigma / 2, sigma))
