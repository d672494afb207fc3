//! `TableFull { retry_after }`: there is no room for another session at that entry, and there is after so much cluster time, not
//! earlier and not later, unless a session is opened, renewed or closed meanwhile.

use raft_core::types::{ClusterTime, Index, Millis};

use crate::violation::Violation;

/// The last promise of room, while nothing has happened that could change it.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    /// The entry that was refused, and when there is to be room.
    promised: Option<(Index, ClusterTime)>,
}

impl Rooms {
    /// The open at `index` was refused at `time`. `room` tells whether there is any.
    ///
    /// # Errors
    /// There is, or the promise differs from the last one, which still holds.
    pub fn refused(
        &mut self,
        index: Index,
        time: ClusterTime,
        retry_after: Millis,
        room: bool,
    ) -> Result<(), Violation> {
        let due = time.after(retry_after);
        let differs = self.promised.is_some_and(|(_, promised)| promised != due);
        if room || differs || retry_after == Millis(0) {
            return Err(Violation::NotFull { index, due, time, room });
        }
        self.promised.get_or_insert((index, due));
        Ok(())
    }

    /// A session was opened, renewed or closed: nothing that was promised holds any more.
    pub fn changed(&mut self) {
        self.promised = None;
    }

    /// An entry that touched no session was applied, and it is `time` now.
    ///
    /// # Errors
    /// There is no room though it is due, or there was before.
    pub fn passed(&mut self, time: ClusterTime, room: bool) -> Result<(), Violation> {
        match self.promised {
            Some((index, due)) if room != (time >= due) => Err(Violation::NotFull { index, due, time, room }),
            Some((_, due)) if time >= due => {
                self.promised = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_comes_too_early_or_too_late_is_found() {
        let mut rooms = Rooms::default();
        assert_eq!(rooms.refused(Index(5), ClusterTime(100), Millis(50), false), Ok(()));
        assert_eq!(rooms.refused(Index(6), ClusterTime(110), Millis(40), false), Ok(()));
        assert_eq!(rooms.passed(ClusterTime(149), false), Ok(()));
        let early = rooms.clone().passed(ClusterTime(149), true);
        assert!(matches!(early, Err(Violation::NotFull { .. })));
        let late = rooms.clone().passed(ClusterTime(150), false);
        assert!(matches!(late, Err(Violation::NotFull { .. })));
        let other = rooms.clone().refused(Index(7), ClusterTime(120), Millis(31), false);
        assert!(matches!(other, Err(Violation::NotFull { .. })));
        assert_eq!(rooms.clone().passed(ClusterTime(150), true), Ok(()));
        rooms.changed();
        assert_eq!(rooms.passed(ClusterTime(150), false), Ok(()), "somebody else took it");
    }

    #[test]
    fn a_refusal_where_there_is_room_is_found() {
        let refused = Rooms::default().refused(Index(5), ClusterTime(100), Millis(50), true);
        assert!(matches!(refused, Err(Violation::NotFull { .. })));
        let never = Rooms::default().refused(Index(5), ClusterTime(100), Millis(0), false);
        assert!(matches!(never, Err(Violation::NotFull { .. })));
    }
}
