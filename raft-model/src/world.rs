//! A state of the whole: three nodes, what is under way between them, what has happened, and what
//! may happen next.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use raft_core::client::protocol::RoleName;
use raft_core::configuration::Configuration;
use raft_core::storage::Storage;
use raft_core::types::NodeId;

use crate::history::History;
use crate::memo::Memo;
use crate::network::{Envelope, Kind, Network};
use crate::node::{Input, NODES, Node, Outcome};
use crate::seen::{Event, Seen};
use crate::space::{Limits, PreVotes, Saves, Space};

/// Something that may happen.
#[derive(Clone, PartialEq)]
pub(crate) struct Action(pub(crate) Kinds);

#[derive(Clone, PartialEq)]
pub(crate) enum Kinds {
    /// Something happens to a node.
    Input(NodeId, Input),
    /// An election timeout passes at the node, and its pre-votes reach the others that are named.
    Campaign(NodeId, Vec<NodeId>),
    /// A message arrives.
    Deliver(Arc<Envelope>),
    /// A message arrives, and another copy of it stays under way.
    Repeat(Arc<Envelope>),
    /// A node loses its memory and starts again, with so many of the changes that were not durable.
    Crash(NodeId, usize),
}

/// How much of what is limited has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Spent {
    crashes: u8,
    heartbeats: u8,
    repeats: u8,
    changes: u8,
    transfers: u8,
}

/// What the ways through a space have in common.
pub(crate) struct Run {
    pub(crate) space: Space,
    pub(crate) configuration: Configuration,
    pub(crate) seen: Seen,
    pub(crate) memo: Memo,
    /// Whether steps are taken that seem to change nothing.
    pub(crate) thorough: bool,
}

impl Run {
    pub(crate) fn new(space: &Space) -> Run {
        let configuration = (space.configuration)();
        Run { space: space.clone(), configuration, seen: Seen::default(), memo: Memo::default(), thorough: false }
    }
}

/// A state.
#[derive(Clone, Debug)]
pub(crate) struct World {
    nodes: [Arc<Node>; NODES],
    network: Network,
    history: Arc<History>,
    spent: Spent,
    /// What a node has refused though a correct one sent it, or by which of its assertions it ended.
    pub(crate) refused: Option<String>,
    pub(crate) panicked: Option<String>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.happened(), self.spent).hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        let of = |world: &World| {
            let mut hasher = std::hash::DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        of(self) == of(other)
    }
}

impl World {
    pub(crate) fn new(run: &Run) -> World {
        let Run { space, configuration, .. } = run;
        let nodes = [1, 2, 3].map(|number| {
            let id = NodeId::new(number).expect("it is not 0");
            Arc::new(Node::create(id, &space.limits, configuration, space.join.contains(&number)))
        });
        let founder = nodes.iter().find_map(|node| node.log().first());
        let history = History::new(*founder.expect("a cluster has a first node"));
        World {
            nodes,
            network: Network::default(),
            history: Arc::new(history),
            spent: Spent::default(),
            refused: None,
            panicked: None,
        }
    }

    /// What it is, but for how much more may happen in its space.
    pub(crate) fn happened(&self) -> impl Hash {
        let nodes = self.nodes.each_ref().map(|node| node.fingerprint());
        (nodes, &self.network, self.history.fingerprint(), &self.refused, &self.panicked)
    }

    pub(crate) fn nodes(&self) -> &[Arc<Node>; NODES] {
        &self.nodes
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The same, with nothing spent of what is limited.
    pub(crate) fn afresh(self) -> World {
        World { spent: Spent::default(), ..self }
    }

    pub(crate) fn is_candidate(&self, id: NodeId) -> bool {
        self.node(id).raft().role() == RoleName::Candidate
    }

    pub(crate) fn lose_messages(&mut self) {
        self.network = Network::default();
    }

    pub(crate) fn node(&self, id: NodeId) -> &Arc<Node> {
        let node = self.nodes.iter().find(|node| node.raft().id() == id);
        node.expect("messages go to the nodes that there are")
    }

    /// What may happen next. Some of it may turn out to change nothing.
    pub(crate) fn actions(&self, limits: &Limits, actions: &mut Vec<Action>) {
        if self.refused.is_some() || self.panicked.is_some() {
            return;
        }
        let mut kinds = Vec::new();
        for node in &self.nodes {
            self.actions_of(node, limits, &mut kinds);
        }
        kinds.extend(self.network.iter().cloned().map(Kinds::Deliver));
        if self.spent.repeats < limits.repeats {
            kinds.extend(self.network.iter().cloned().map(Kinds::Repeat));
        }
        actions.extend(kinds.into_iter().map(Action));
    }

    fn actions_of(&self, node: &Node, limits: &Limits, kinds: &mut Vec<Kinds>) {
        let id = node.raft().id();
        let mut input = |input| kinds.push(Kinds::Input(id, input));
        if node.leads() {
            if node.raft().storage().last().index.0 < limits.entries {
                input(Input::Propose);
            }
            if self.spent.changes < limits.changes {
                input(Input::Change);
            }
            if self.spent.transfers < limits.transfers {
                let others = self.nodes.iter().map(|node| node.raft().id()).filter(|&other| other != id);
                others.for_each(|other| input(Input::HandOver(other)));
            }
            if self.spent.heartbeats < limits.heartbeats {
                input(Input::Tick);
            }
        }
        if node.hears() {
            input(Input::Silence);
        }
        match limits.saves {
            Saves::AtOnce => {}
            Saves::Apart if node.disk().unsaved() > 0 => input(Input::Save),
            Saves::Late if node.disk().unsaved() > 0 => input(Input::Write),
            Saves::Apart | Saves::Late => {}
        }
        if limits.saves == Saves::Late && node.can_report() {
            input(Input::Report);
        }
        if !node.leads() && node.raft().term().0 < limits.terms {
            match limits.pre_votes {
                PreVotes::Apart => input(Input::Tick),
                PreVotes::AtOnce => {
                    let others: Vec<NodeId> =
                        self.nodes.iter().map(|node| node.raft().id()).filter(|&other| other != id).collect();
                    kinds.extend(others.iter().map(|&other| Kinds::Campaign(id, vec![other])));
                    kinds.push(Kinds::Campaign(id, others));
                }
            }
        }
        if self.spent.crashes < limits.crashes {
            kinds.extend((0..=node.disk().unsaved()).map(|kept| Kinds::Crash(id, kept)));
        }
    }

    /// What comes of `action`; `None` if that is no other state, or if it lies outside of the space.
    pub(crate) fn next(&self, run: &Run, action: &Action) -> Option<World> {
        let world = match catch_unwind(AssertUnwindSafe(|| self.act(run, action))) {
            Ok(world) => world?,
            Err(cause) => {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                World { panicked: Some(text.unwrap_or_default()), ..self.clone() }
            }
        };
        let limits = &run.space.limits;
        let inside = |node: &Arc<Node>| {
            node.raft().term().0 <= limits.terms && node.raft().storage().last().index.0 <= limits.entries
        };
        world.nodes.iter().all(inside).then_some(world)
    }

    fn act(&self, run: &Run, Action(kinds): &Action) -> Option<World> {
        let mut world = self.clone();
        match kinds {
            Kinds::Input(id, input) => {
                match input {
                    Input::Tick if self.node(*id).leads() => world.spent.heartbeats += 1,
                    Input::Change => world.spent.changes += 1,
                    Input::HandOver(_) => world.spent.transfers += 1,
                    _ => {}
                }
                world.feed(run, *id, input)?;
            }
            Kinds::Campaign(id, asked) => world.campaign(run, *id, asked)?,
            Kinds::Deliver(envelope) => {
                world.network.remove(envelope);
                // What has no effect now may have one later: to take it now is to lose it.
                world.feed(run, envelope.to, &Input::Receive(Arc::clone(envelope)))?;
            }
            Kinds::Repeat(envelope) => {
                world.spent.repeats += 1;
                world.feed(run, envelope.to, &Input::Receive(Arc::clone(envelope)))?;
                run.seen.note(Event::Repeated);
            }
            Kinds::Crash(id, kept) => world.crash(run, *id, *kept),
        }
        Some(world)
    }

    /// Gives `input` to a node and takes up what comes of it; `None` if nothing does.
    fn feed(&mut self, run: &Run, id: NodeId, input: &Input) -> Option<()> {
        let before = Arc::clone(self.node(id));
        let outcome = run.memo.take(&before, &run.space.limits, input)?;
        let silent = outcome.refused.is_none() && outcome.sent.is_empty();
        if silent && outcome.node.fingerprint() == before.fingerprint() && !run.thorough {
            return None;
        }
        self.take_up(run, &before, &outcome);
        Some(())
    }

    fn take_up(&mut self, run: &Run, before: &Node, outcome: &Outcome) {
        run.seen.compare(before, outcome);
        if self.history.is_touched(outcome) {
            Arc::make_mut(&mut self.history).add(outcome);
        }
        self.refused = self.refused.take().or_else(|| outcome.refused.clone());
        self.put(Arc::clone(&outcome.node));
        for envelope in &outcome.sent {
            self.network.insert(Arc::clone(envelope));
        }
        self.lose_stale(&run.space.limits);
    }

    fn put(&mut self, node: Arc<Node>) {
        let id = node.raft().id();
        if let Some(place) = self.nodes.iter_mut().find(|node| node.raft().id() == id) {
            *place = node;
        }
    }

    fn lose_stale(&mut self, limits: &Limits) {
        if limits.stale_messages {
            return;
        }
        let nodes = &self.nodes;
        self.network.retain(|envelope| {
            let receiver = nodes.iter().find(|node| node.raft().id() == envelope.to);
            receiver.is_some_and(|receiver| !envelope.is_stale(receiver.raft()))
        });
    }

    /// Pre-votes change nothing at those who answer. If they bring about no election and no later
    /// term, this is no other state than that after [`Input::Silence`].
    fn campaign(&mut self, run: &Run, id: NodeId, asked: &[NodeId]) -> Option<()> {
        let take = |node: &Node, input| run.memo.take(node, &run.space.limits, &input);
        let before = Arc::clone(self.node(id));
        let mut outcome = take(&before, Input::Tick)?;
        let mut pre_votes = outcome.sent.clone();
        for other in asked {
            let asks = |envelope: &&Arc<Envelope>| envelope.kind == Kind::PreVote && envelope.to == *other;
            let Some(pre_vote) = pre_votes.iter().find(asks).cloned() else { continue };
            let answers = take(self.node(*other), Input::Receive(pre_vote))?;
            for answer in answers.sent.iter().filter(|answer| answer.to == id) {
                if outcome.node.raft().role() == RoleName::PreCandidate {
                    let asking = outcome;
                    outcome = take(&asking.node, Input::Receive(Arc::clone(answer)))?;
                    pre_votes.extend(asking.sent.iter().cloned());
                }
            }
        }
        if outcome.node.raft().term() == before.raft().term() {
            return None;
        }
        self.take_up(run, &before, &outcome);
        Some(())
    }

    fn crash(&mut self, run: &Run, id: NodeId, kept: usize) {
        let before = Arc::clone(self.node(id));
        if kept < before.disk().unsaved() {
            run.seen.note(Event::Lost);
        }
        self.spent.crashes += 1;
        let node = before.restart(&run.space.limits, &run.configuration, kept);
        if node.raft().configuration_entry() < before.raft().configuration_entry() {
            run.seen.note(Event::ChangeLost);
        }
        self.put(run.memo.once(Arc::new(node)));
        self.lose_stale(&run.space.limits);
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kinds::Input(id, input) => write!(formatter, "node {id}: {input:?}"),
            Kinds::Campaign(id, asked) => {
                let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
                write!(formatter, "node {id}: an election timeout passes, pre-votes reach {}", asked.join(" and "))
            }
            Kinds::Deliver(envelope) => write!(formatter, "{envelope:?}"),
            Kinds::Repeat(envelope) => write!(formatter, "{envelope:?} (and once more)"),
            Kinds::Crash(id, kept) => write!(formatter, "node {id}: crash, {kept} of the unsaved changes survive"),
        }
    }
}
