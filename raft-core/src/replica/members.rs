//! The members as the replica's surroundings need them: where each is reached, and which storage
//! is its own.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::configuration::change::MemberChange;
use crate::machine::StateMachine;
use crate::replica::{PollError, Replica};
use crate::session::memory::SessionMemory;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::Instant;

impl<S, T, M, X, const NODES: usize> Replica<S, T, M, X, NODES>
where
    S: Storage,
    T: Transport,
    M: StateMachine,
    X: SessionMemory,
{
    /// Tells the transport who the members are, whenever that has changed.
    pub(super) fn follow_configuration(&mut self, now: Instant) -> Result<(), PollError<S::Error>> {
        let entry = self.core.raft.configuration_entry();
        if entry != self.core.configuration_entry {
            self.core.configuration = self.core.raft.configuration().map_err(PollError::Configuration)?;
            self.core.configuration_entry = entry;
            self.core.unregistered =
                self.core.configuration.members().iter().any(|member| member.incarnation.is_none());
            self.transport.configure(&self.core.configuration);
        }
        if self.core.unregistered && self.core.raft.role() == RoleName::Leader {
            self.register(now);
        }
        Ok(())
    }

    /// Writes into the configuration which storage each member has, as the transport met it: from
    /// then on another one under the same id is refused, by all.
    fn register(&mut self, now: Instant) {
        let unknown = self.core.configuration.members().iter().filter(|member| member.incarnation.is_none());
        let met = unknown.filter_map(|member| Some((member.id, self.transport.incarnation(member.id)?)));
        let changes: Vec<MemberChange, NODES> =
            met.map(|(id, incarnation)| MemberChange::Register { id, incarnation }).collect();
        if !changes.is_empty()
            && self.core.raft.commit() >= self.core.raft.configuration_entry().index
            // While it is refused, for whatever reason, it is tried again.
            && let Ok((_, ready)) = self.core.raft.change_members(now, &changes, true)
        {
            ready.later();
        }
    }
}
