//! What has happened in a space before anything is left to chance: told by what each node does and
//! which messages arrive, so that it is a state that can be reached.

use std::sync::Arc;

use raft_core::types::NodeId;

use crate::network::Envelope;
use crate::node::Input;
use crate::space::{Limits, Saves, Space};
use crate::world::{Action, Kinds, Run, World};

/// Brings a world into the state that a space begins with. All is saved at once here, and nothing
/// counts towards what the space limits.
pub(crate) struct Setup {
    run: Run,
    world: World,
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("nodes are numbered from 1 on")
}

impl Setup {
    pub(crate) fn new(space: &Space) -> Setup {
        let limits = Limits { saves: Saves::AtOnce, ..space.limits.clone() };
        let run = Run::new(&Space { limits, ..space.clone() });
        Setup { world: World::new(&run), run }
    }

    pub(crate) fn world(self) -> World {
        self.world.afresh()
    }

    /// Node `number` is elected by `voters`, which hear of nothing else.
    pub(crate) fn elect(&mut self, number: u64, voters: &[u64]) {
        if voters.iter().any(|&voter| self.world.node(id(voter)).hears()) {
            voters.iter().for_each(|&voter| self.silence(voter));
        }
        let asked: Vec<NodeId> = voters.iter().map(|&voter| id(voter)).collect();
        // It may have to learn first how high the term is.
        while self.act(Kinds::Campaign(id(number), asked.clone())) && !self.world.is_candidate(id(number)) {}
        for &voter in voters {
            self.pass_one(number, voter);
            self.pass_one(voter, number);
        }
        assert!(self.world.node(id(number)).leads(), "node {number} is elected by {voters:?}");
    }

    /// An election timeout passes at a node, and it campaigns.
    pub(crate) fn campaign(&mut self, number: u64, asked: u64) {
        assert!(self.act(Kinds::Campaign(id(number), vec![id(asked)])), "node {number} may campaign");
    }

    /// More than an election timeout passes at a node without a word from anybody.
    pub(crate) fn silence(&mut self, number: u64) {
        self.act(Kinds::Input(id(number), Input::Silence));
    }

    /// A leader changes the members as the space says.
    pub(crate) fn change(&mut self, number: u64) {
        assert!(self.act(Kinds::Input(id(number), Input::Change)), "node {number} may change the members");
    }

    /// The messages of one node reach another, and the answers come back, until there is nothing
    /// left to say between them.
    pub(crate) fn talk(&mut self, one: u64, other: u64) {
        while self.pass_one(one, other) || self.pass_one(other, one) {}
    }

    /// All that is under way is lost.
    pub(crate) fn lose(&mut self) {
        self.world.lose_messages();
    }

    fn pass_one(&mut self, from: u64, to: u64) -> bool {
        let between = |envelope: &&Arc<Envelope>| envelope.from == id(from) && envelope.to == id(to);
        let under_way: Vec<_> = self.world.network().iter().filter(between).cloned().collect();
        under_way.into_iter().any(|envelope| self.act(Kinds::Deliver(envelope)))
    }

    fn act(&mut self, kinds: Kinds) -> bool {
        match self.world.next(&self.run, &Action(kinds)) {
            Some(world) => {
                self.world = world;
                true
            }
            None => false,
        }
    }
}
