"""The slow, obvious twin of the simulator: lists and dataclasses, one token at a time, no leaps and no counters.

Written from the rules, not from the kernel. At one instant: transfers that end, then arrivals, then replicas by index.
"""

from __future__ import annotations

import math

from twin_parts import NEVER, Lane, Replica, Sequence, stage_time

from thunderserve.serving.router import Router
from thunderserve.simulator.fleet import ReplicaSetup, RouteSetup


class Twin:
    def __init__(self, replicas: list[ReplicaSetup], routes: list[RouteSetup], router: Router, links: int) -> None:
        self.replicas = [
            Replica(
                i,
                r.table,
                r.limits,
                r.limits.blocks,
                [Lane() for _ in range(r.limits.stages)],
                [-NEVER] * r.limits.stages,
            )
            for i, r in enumerate(replicas)
        ]
        self.routes = sorted(routes, key=lambda route: (route.prefill, route.decode))
        self.counts = [0] * len(routes)
        self.router = router
        self.link_free = [-NEVER] * links
        self.transfers: list[tuple[float, int, Sequence]] = []
        self.issued = 0
        self.now = -NEVER

    def run(self, arrivals, prompts, outputs) -> list[Sequence]:
        columns = zip(arrivals, prompts, outputs, strict=True)
        all_ = [Sequence(i, float(a), int(p), int(o)) for i, (a, p, o) in enumerate(columns)]
        coming = list(all_)
        while True:
            transfer = min(self.transfers, key=lambda t: t[:2], default=(NEVER, 0, None))
            arrival = coming[0].arrival if coming else NEVER
            when = [self.next_time(replica) for replica in self.replicas]
            now = min(transfer[0], arrival, *when)
            if now == NEVER:
                return all_
            self.now = now
            if transfer[0] == now:
                self.transfers.remove(transfer)
                self.receive(transfer[2], now)
            elif arrival == now:
                self.arrive(coming.pop(0), now)
            else:
                self.look_at(self.replicas[when.index(now)], now)

    def next_time(self, replica: Replica) -> float:
        times = [lane.finish for lane in replica.lanes if lane.flying] + [replica.dirty]
        idle = [lane for lane in replica.lanes if not lane.flying]
        if any(lane.sequences or replica.waiting or replica.ready for lane in idle):
            free = replica.stage_free[0]
            times += [free] if free >= self.now and free > replica.last_look else []
        return min(times)

    # arrivals and routing

    def arrive(self, sequence: Sequence, now: float) -> None:
        able = [i for i, route in enumerate(self.routes) if self.can_serve(route, sequence)]
        if not able:
            sequence.status = 1
            return
        chosen = min(able, key=lambda i: (*self.rank(self.routes[i], i, now), i))
        self.counts[chosen] += 1
        sequence.route = route = self.routes[chosen]
        replica = self.replicas[route.prefill]
        replica.waiting.append(sequence)
        replica.given.append(sequence)
        if route.prefill != route.decode and sequence.output > 1:
            self.replicas[route.decode].given.append(sequence)
        replica.dirty = now

    def can_serve(self, route: RouteSetup, sequence: Sequence) -> bool:
        whole = sequence.prompt + sequence.output - 1
        if sequence.output == 1 or route.prefill == route.decode:
            return self.replicas[route.prefill].could_hold(whole)
        return self.replicas[route.prefill].could_hold(sequence.prompt) and self.replicas[route.decode].could_hold(
            whole
        )

    def rank(self, route: RouteSetup, index: int, now: float) -> tuple[float, ...]:
        if self.router == Router.SHARES:
            share = route.share / sum(r.share for r in self.routes)
            return (self.counts[index] - (sum(self.counts) + 1) * share,)
        return self.load(self.replicas[route.prefill]), self.load(self.replicas[route.decode])

    def load(self, replica: Replica) -> float:
        if self.router == Router.SHORTEST_QUEUE:
            return len(replica.given)
        if self.router == Router.FEWEST_TOKENS:
            return sum(sequence.prompt for sequence in replica.given)
        return (replica.limits.blocks - replica.free) / replica.limits.blocks

    # a replica

    def look_at(self, replica: Replica, now: float) -> None:
        replica.dirty = NEVER
        replica.last_look = now
        outbox: list[Sequence] = []
        for lane in replica.lanes:
            if lane.flying and lane.finish <= now:
                lane.flying, lane.idle_since = False, now
                self.complete(replica, lane, now, outbox)
        for sequence in outbox:
            decode = self.replicas[sequence.route.decode]
            decode.inbox.append(sequence)
            self.pull(decode, now)
        self.pull(replica, now)
        self.launch(replica, now)
        self.pull(replica, now)  # a preempted sequence that was in the way may have been admitted

    def launch(self, replica: Replica, now: float) -> None:
        while replica.stage_free[0] <= now:
            idle = sorted((lane for lane in replica.lanes if not lane.flying), key=lambda lane: lane.idle_since)
            for lane in idle:
                if self.schedule(replica, lane, now):
                    self.fly(replica, lane, now)
                    break
            else:
                return

    def fly(self, replica: Replica, lane: Lane, now: float) -> None:
        lane.flying = True
        tokens = len(lane.decodes) + sum(length for _, length in lane.chunks)
        enter = now
        for stage in range(replica.limits.stages):
            leave = max(enter, replica.stage_free[stage]) + stage_time(replica.table, stage, lane.decodes, lane.chunks)
            replica.stage_free[stage] = leave
            enter = leave + replica.table.hop_s[stage] + tokens * replica.table.hop_s_per_token[stage]
        lane.finish = leave

    def schedule(self, replica: Replica, lane: Lane, now: float) -> bool:
        lane.decodes, lane.chunks = [], []
        while replica.ready and len(lane.sequences) < replica.max_sequences:
            decoding = sum(s.cached >= s.target for s in lane.sequences)
            lane.sequences.insert(decoding, replica.ready.pop(0))  # sequences in prefill stay last
        if not replica.limits.chunked:
            self.admit(replica, lane, replica.limits.max_batched_tokens, now)
            if lane.chunks:
                return True
        preempted = self.make_room(replica, lane)
        if preempted and not lane.sequences:
            return self.schedule(replica, lane, now)
        decodes = [s for s in lane.sequences if s.cached >= s.target]
        for sequence in decodes:
            need = replica.blocks_for(sequence.cached + 1) - sequence.blocks
            sequence.blocks += need
            replica.free -= need
        assert replica.free >= 0
        if replica.limits.chunked:
            budget = replica.limits.max_batched_tokens - len(decodes)
            for sequence in lane.sequences:
                if sequence.cached < sequence.target:
                    length = min(budget, sequence.target - sequence.cached)
                    lane.chunks.append((sequence, length))
                    budget -= length
            if not preempted:
                self.admit(replica, lane, budget, now)
        lane.decodes = decodes
        return bool(lane.decodes or lane.chunks)

    def admit(self, replica: Replica, lane: Lane, budget: int, now: float) -> None:
        while replica.waiting and len(lane.sequences) < replica.max_sequences and budget > 0:
            sequence = replica.waiting[0]
            length = sequence.prompt + sequence.emitted
            if replica.blocks_for(length) + replica.limits.watermark_blocks > replica.free:
                return
            if not replica.limits.chunked and lane.chunks and length > budget:
                return
            replica.waiting.pop(0)
            sequence.blocks = replica.blocks_for(length)
            replica.free -= sequence.blocks
            sequence.cached, sequence.target = 0, length
            if math.isnan(sequence.prefill_start):
                sequence.prefill_start = now
            lane.sequences.append(sequence)
            taken = min(length, budget) if replica.limits.chunked else length
            lane.chunks.append((sequence, taken))
            budget -= taken

    def make_room(self, replica: Replica, lane: Lane) -> bool:
        preempted = False
        while True:
            decodes = [s for s in lane.sequences if s.cached >= s.target]
            if sum(replica.blocks_for(s.cached + 1) - s.blocks for s in decodes) <= replica.free:
                return preempted
            victim = lane.sequences.pop()
            replica.free += victim.blocks
            victim.blocks = victim.cached = victim.target = 0
            victim.preemptions += 1
            replica.waiting.insert(0, victim)
            preempted = True

    def complete(self, replica: Replica, lane: Lane, now: float, outbox: list[Sequence]) -> None:
        for sequence in lane.decodes:
            sequence.cached += 1
            sequence.target = sequence.cached
            sequence.emitted += 1
            if sequence.emitted == sequence.output:
                self.finish(replica, lane, sequence, now)
        for sequence, length in lane.chunks:
            sequence.cached += length
            if sequence.cached < sequence.target:
                continue
            sequence.emitted += 1
            if sequence.emitted == 1:
                sequence.first_token = now
            if sequence.emitted == sequence.output:
                self.finish(replica, lane, sequence, now)
            elif sequence.route.prefill != sequence.route.decode and not sequence.handed_over:
                sequence.handed_over = True
                lane.sequences.remove(sequence)
                replica.given.remove(sequence)
                outbox.append(sequence)

    def finish(self, replica: Replica, lane: Lane, sequence: Sequence, now: float) -> None:
        replica.free += sequence.blocks
        sequence.blocks = 0
        lane.sequences.remove(sequence)
        replica.given.remove(sequence)
        if sequence.handed_over:
            replica.pulled -= 1
        sequence.finish, sequence.status = now, 0

    # transfers

    def pull(self, replica: Replica, now: float) -> None:
        while replica.inbox and replica.pulled < replica.limits.stages * replica.max_sequences:
            if replica.waiting and replica.waiting[0].preemptions:
                return
            sequence = replica.inbox[0]
            held = replica.blocks_for(sequence.prompt)
            if held + replica.limits.watermark_blocks > replica.free:
                return
            replica.inbox.pop(0)
            replica.free -= held
            replica.pulled += 1
            sequence.transfer_start = now
            self.transfers.append((self.arrival_of(sequence, now), self.issued, sequence))
            self.issued += 1

    def arrival_of(self, sequence: Sequence, now: float) -> float:
        """Layer by layer if its prompt ends now and its route says so: the first layer leaves when it is computed, the last not
        before the prompt has ended."""
        route, tokens = sequence.route, sequence.prompt
        parts = route.layers if route.layers and sequence.first_token == now else 1
        encode, wire, decode = (
            rate * tokens for rate in (route.encode_s_per_token, route.s_per_token, route.decode_s_per_token)
        )
        ready = now if parts == 1 else sequence.prefill_start + (now - sequence.prefill_start) / parts
        start = max([ready + encode / parts, *(self.link_free[link] for link in route.links)])
        if parts > 1:
            sequence.transfer_start = min(start, now)
        end = start + route.alpha_s + wire
        for link in route.links:
            self.link_free[link] = end
        return max(end, now + encode / parts + route.alpha_s + wire / parts) + decode / parts

    def receive(self, sequence: Sequence, now: float) -> None:
        sequence.transfer_end = now
        prefill, decode = self.replicas[sequence.route.prefill], self.replicas[sequence.route.decode]
        prefill.free += sequence.blocks
        prefill.dirty = now
        self.pull(prefill, now)
        sequence.blocks = decode.blocks_for(sequence.prompt)
        decode.ready.append(sequence)
        decode.dirty = now
