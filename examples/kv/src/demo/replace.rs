//! Replacing every member of the cluster under load: two join, two leave, one joins, one leaves.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use kv::load::Shared;
use kv::watch::{View, Watch};
use raft_client::OperatorClient;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Member, Suffrage};
use raft_core::types::NodeId;

use crate::demo::{Demo, DemoError, LOOK};

/// How long nodes may take to copy the state and become voters.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

impl Demo {
    /// Replaces nodes 1, 2, 3 by 4, 5, 6.
    pub(super) fn replace_members(&mut self, shared: &Shared) -> Result<(), DemoError> {
        self.add(&[4, 5], shared)?;
        self.remove(&[1, 2], shared)?;
        self.add(&[6], shared)?;
        self.remove(&[3], shared)
    }

    fn operator(&self) -> OperatorClient {
        OperatorClient::new(self.endpoints.clone(), CATCH_UP_MAX)
    }

    /// Starts nodes and has them added; waits until they vote.
    fn add(&mut self, nodes: &[u64], shared: &Shared) -> Result<(), DemoError> {
        self.wait_until(shared, "its log was never compacted", |view| {
            view.leader().is_some_and(|(_, leader)| leader.base.0 > 0)
        })?;
        let mut changes = Vec::new();
        for &node in nodes {
            let listen = self.cluster.add(node)?;
            let id = NodeId::new(node).ok_or(DemoError::Members)?;
            let member = Member::new(id, Suffrage::Joining, &listen.to_string()).map_err(|_| DemoError::Members)?;
            changes.push(MemberChange::Add(self.operator().meet(member)?));
        }
        self.operator().change_members(&changes, false)?;
        self.look_at_members()?;
        self.wait_for(shared, |voters| nodes.iter().all(|node| voters.contains(node)))?;
        // The entries they began with had been dropped everywhere: they came by a snapshot.
        self.wait_until(shared, "they did not come by a snapshot", |view| {
            let new = view.0.iter().flatten().filter(|status| nodes.contains(&status.node.get()));
            new.filter(|status| status.base.0 > 0).count() == nodes.len()
        })?;
        self.progress.say(&format!("Nodes {nodes:?} joined, caught up by a snapshot, and vote."));
        self.settle()?;
        self.progress.step();
        Ok(())
    }

    /// Removes members; waits until their processes have noticed and ended.
    fn remove(&mut self, nodes: &[u64], shared: &Shared) -> Result<(), DemoError> {
        nodes.iter().for_each(|&node| self.cluster.let_go(node));
        let id = |node: &u64| NodeId::new(*node).map(MemberChange::Remove).ok_or(DemoError::Members);
        let changes: Vec<MemberChange> = nodes.iter().map(id).collect::<Result<_, _>>()?;
        self.operator().change_members(&changes, false)?;
        self.look_at_members()?;
        let begin = Instant::now();
        while !nodes.iter().all(|&node| self.cluster.has_gone(node)) {
            if begin.elapsed() > CATCH_UP_MAX {
                return Err(DemoError::Stays(nodes.to_vec()));
            }
            self.wait(LOOK, shared)?;
        }
        self.progress.say(&format!("Nodes {nodes:?} were removed, noticed it, and ended."));
        self.settle()?;
        self.progress.step();
        Ok(())
    }

    /// From now on the nodes that belong to the cluster are looked at.
    fn look_at_members(&mut self) -> Result<(), DemoError> {
        self.endpoints = self.cluster.endpoints();
        self.watch = Watch::new(&self.endpoints)?;
        Ok(())
    }

    fn wait_until(
        &mut self,
        shared: &Shared,
        otherwise: &'static str,
        done: impl Fn(&View) -> bool,
    ) -> Result<(), DemoError> {
        let begin = Instant::now();
        while !done(&self.watch.look()) {
            if begin.elapsed() > CATCH_UP_MAX {
                return Err(DemoError::NotReplaced(otherwise));
            }
            self.wait(LOOK, shared)?;
        }
        Ok(())
    }

    fn wait_for(&mut self, shared: &Shared, wanted: impl Fn(&BTreeSet<u64>) -> bool) -> Result<(), DemoError> {
        let begin = Instant::now();
        loop {
            let (_, configuration) = self.operator().members()?;
            let voters = configuration.members().iter().filter(|member| member.votes() && !configuration.is_joint());
            if wanted(&voters.map(|member| member.id.get()).collect()) {
                return Ok(());
            }
            if begin.elapsed() > CATCH_UP_MAX {
                return Err(DemoError::NotCaughtUp);
            }
            self.wait(LOOK, shared)?;
            thread::sleep(LOOK);
        }
    }
}
