//! The state machine: a sorted map of keys to values with revisions.

use std::collections::BTreeMap;
use std::ops::Bound;

use kv::command::{
    Command, Condition, Found, KEY_BYTES_MAX, Page, Query, Reply, VALUE_BYTES_MAX, decode, encode, is_key,
};
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::wire::Bytes;

/// The most bytes of keys and values in one page of a list; one pair always fits.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The most pairs in one page of a list.
const PAGE_ITEMS_MAX: u32 = 1000;

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    keys: BTreeMap<String, Value>,
    /// The index of the last command executed.
    at: u64,
    /// The wrapping sum of the hashes of all pairs: whatever the order in which they came.
    sum: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    /// The index of the command that set it.
    revision: u64,
}

impl StateMachine for Store {
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.at = position.index.0;
        let reply = decode(command).map_or(Reply::Invalid, |command| self.execute(&command));
        answer.write(&encode(&reply));
    }

    fn query(&self, query: &[u8], answer: &mut dyn Sink) {
        match decode(query) {
            Some(Query::Get { key }) => {
                let value = self.keys.get(key).map(|value| (Bytes(&value.bytes), value.revision));
                answer.write(&encode(&Found { at: self.at, value }));
            }
            Some(Query::List { prefix, after, limit }) => answer.write(&encode(&self.page(prefix, after, limit))),
            // An empty answer is none that a client of this version takes for one.
            None => {}
        }
    }

    /// The last index and the number of pairs, then each: the lengths of key and value, the
    /// revision, the key, the value; numbers of 8 bytes, little-endian.
    fn snapshot(&self, state: &mut dyn Sink) {
        let write = |state: &mut dyn Sink, number: u64| state.write(&number.to_le_bytes());
        write(state, self.at);
        write(state, self.keys.len() as u64);
        for (key, value) in &self.keys {
            write(state, key.len() as u64);
            write(state, value.bytes.len() as u64);
            write(state, value.revision);
            state.write(key.as_bytes());
            state.write(&value.bytes);
        }
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        let mut store = Store { at: read_number(state)?, ..Store::default() };
        for _ in 0..read_number(state)? {
            let (key, value) = (read_number(state)?, read_number(state)?);
            if key > KEY_BYTES_MAX as u64 || value > VALUE_BYTES_MAX as u64 {
                return Err(Damaged);
            }
            let revision = read_number(state)?;
            let key = String::from_utf8(read_bytes(state, key)?).map_err(|_| Damaged)?;
            let value = Value { bytes: read_bytes(state, value)?, revision };
            store.insert(&key, value);
        }
        *self = store;
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.sum ^ self.at
    }
}

fn read_number(state: &mut dyn Source) -> Result<u64, Damaged> {
    let mut bytes = [0; 8];
    state.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_bytes(state: &mut dyn Source, length: u64) -> Result<Vec<u8>, Damaged> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Damaged)?];
    state.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// FNV-1a of 64 bits (RFC 9923) over a pair, with the length of the key before it.
fn hash(key: &str, value: &Value) -> u64 {
    let (length, revision) = ((key.len() as u64).to_le_bytes(), value.revision.to_le_bytes());
    let bytes = length.iter().chain(key.as_bytes()).chain(&revision).chain(&value.bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Store {
    fn execute(&mut self, command: &Command<'_>) -> Reply {
        match *command {
            Command::Put { key, value, condition } => {
                if let Some(refusal) = self.check(key, value.0, condition) {
                    return refusal;
                }
                self.set(key, value.0.to_vec())
            }
            Command::Delete { key, condition } => match self.check(key, &[], condition) {
                Some(refusal) => refusal,
                None if self.remove(key) => Reply::Done,
                None => Reply::NotFound,
            },
            Command::Incr { key, by } => self.increment(key, by),
            Command::Cas { key, old, new } => {
                let found = self.keys.get(key);
                if !is_key(key) || new.0.len() > VALUE_BYTES_MAX {
                    return Reply::Invalid;
                }
                if found.is_none_or(|value| value.bytes != old.0) {
                    return Reply::ConditionFailed { revision: found.map(|value| value.revision) };
                }
                self.set(key, new.0.to_vec())
            }
        }
    }

    /// Why a write is refused, if it is.
    fn check(&self, key: &str, value: &[u8], condition: Condition) -> Option<Reply> {
        if !is_key(key) || value.len() > VALUE_BYTES_MAX {
            return Some(Reply::Invalid);
        }
        let revision = self.keys.get(key).map(|value| value.revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => revision.is_none(),
            Condition::Revision(expected) => revision == Some(expected),
        };
        (!holds).then_some(Reply::ConditionFailed { revision })
    }

    fn set(&mut self, key: &str, bytes: Vec<u8>) -> Reply {
        self.insert(key, Value { bytes, revision: self.at });
        Reply::Done
    }

    fn insert(&mut self, key: &str, value: Value) {
        self.sum = self.sum.wrapping_add(hash(key, &value));
        match self.keys.get_mut(key) {
            Some(place) => {
                self.sum = self.sum.wrapping_sub(hash(key, place));
                *place = value;
            }
            None => drop(self.keys.insert(key.to_owned(), value)),
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let removed = self.keys.remove(key);
        self.sum = self.sum.wrapping_sub(removed.as_ref().map_or(0, |value| hash(key, value)));
        removed.is_some()
    }

    fn increment(&mut self, key: &str, by: i64) -> Reply {
        if !is_key(key) {
            return Reply::Invalid;
        }
        let number = |value: &Value| std::str::from_utf8(&value.bytes).ok()?.parse::<i64>().ok();
        let Some(before) = self.keys.get(key).map_or(Some(0), number) else { return Reply::NotANumber };
        let Some(value) = before.checked_add(by) else { return Reply::Overflow };
        self.set(key, value.to_string().into_bytes());
        Reply::Counted { value }
    }

    fn page(&self, prefix: &str, after: &str, limit: u32) -> Page<'_> {
        // Keys before the prefix are passed over by beginning there.
        let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let mut page = Page { at: self.at, items: Vec::new(), more: false };
        let (mut bytes, limit) = (0, limit.clamp(1, PAGE_ITEMS_MAX) as usize);
        for (key, value) in self.keys.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            bytes += key.len() + value.bytes.len();
            if page.items.len() == limit || (bytes > PAGE_BYTES_MAX && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.push((key, Bytes(&value.bytes), value.revision));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raft_core::types::{ClusterTime, Index};

    use super::*;

    fn apply(store: &mut Store, index: u64, bytes: &[u8]) -> Reply {
        let mut buffer = [0; 64];
        let mut answer = Answer::new(&mut buffer);
        store.apply(Position { index: Index(index), time: ClusterTime(0) }, bytes, &mut answer);
        decode(answer.finish().expect("every reply is at most 64 bytes long")).unwrap()
    }

    fn put(key: &str, value: &[u8], condition: Condition) -> Vec<u8> {
        encode(&Command::Put { key, value: Bytes(value), condition })
    }

    fn get(store: &Store, key: &str) -> Option<(Vec<u8>, u64)> {
        let mut bytes = Collected::default();
        store.query(&encode(&Query::Get { key }), &mut bytes);
        let found: Found<'_> = decode(&bytes.0).unwrap();
        found.value.map(|(value, revision)| (value.0.to_vec(), revision))
    }

    #[derive(Default)]
    struct Collected(Vec<u8>);

    impl Sink for Collected {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    #[test]
    fn conditions_compare_revisions() {
        let mut store = Store::default();
        assert_eq!(apply(&mut store, 2, &put("a", b"1", Condition::Absent)), Reply::Done);
        let failed = Reply::ConditionFailed { revision: Some(2) };
        assert_eq!(apply(&mut store, 3, &put("a", b"2", Condition::Absent)), failed);
        assert_eq!(apply(&mut store, 4, &put("a", b"2", Condition::Revision(3))), failed);
        assert_eq!(apply(&mut store, 5, &put("a", b"2", Condition::Revision(2))), Reply::Done);
        assert_eq!(get(&store, "a"), Some((b"2".to_vec(), 5)));
        let none = Reply::ConditionFailed { revision: None };
        assert_eq!(apply(&mut store, 6, &put("b", b"", Condition::Revision(1))), none);
    }

    #[test]
    fn numbers_are_added_to_and_nothing_else() {
        let mut store = Store::default();
        let incr = |key, by| encode(&Command::Incr { key, by });
        assert_eq!(apply(&mut store, 1, &incr("n", 41)), Reply::Counted { value: 41 });
        assert_eq!(apply(&mut store, 2, &incr("n", 1)), Reply::Counted { value: 42 });
        assert_eq!(get(&store, "n"), Some((b"42".to_vec(), 2)));
        assert_eq!(apply(&mut store, 3, &incr("n", i64::MAX)), Reply::Overflow);
        assert_eq!(apply(&mut store, 4, &put("s", b"text", Condition::Always)), Reply::Done);
        assert_eq!(apply(&mut store, 5, &incr("s", 1)), Reply::NotANumber);
        assert_eq!(get(&store, "s"), Some((b"text".to_vec(), 4)));
    }

    #[test]
    fn values_are_compared_and_swapped() {
        let mut store = Store::default();
        let cas = |old, new| encode(&Command::Cas { key: "k", old: Bytes(old), new: Bytes(new) });
        assert_eq!(apply(&mut store, 1, &cas(b"", b"x")), Reply::ConditionFailed { revision: None });
        apply(&mut store, 2, &put("k", b"a", Condition::Always));
        assert_eq!(apply(&mut store, 3, &cas(b"a", b"b")), Reply::Done);
        assert_eq!(apply(&mut store, 4, &cas(b"a", b"c")), Reply::ConditionFailed { revision: Some(3) });
    }

    #[test]
    fn lists_come_in_pages() {
        let mut store = Store::default();
        for (index, key) in ["a/1", "a/2", "a/3", "b/1"].into_iter().enumerate() {
            apply(&mut store, index as u64 + 1, &put(key, b"v", Condition::Always));
        }
        let keys = |page: Page<'_>| (page.items.iter().map(|item| item.0.to_owned()).collect::<Vec<_>>(), page.more);
        assert_eq!(keys(store.page("a/", "", 2)), (vec!["a/1".into(), "a/2".into()], true));
        assert_eq!(keys(store.page("a/", "a/2", 2)), (vec!["a/3".into()], false));
        assert_eq!(keys(store.page("", "a/3", 9)), (vec!["b/1".into()], false));
    }

    #[test]
    fn bytes_that_are_no_command_change_nothing() {
        let mut store = Store::default();
        for bytes in [&b""[..], b"\xff\xff", b"\x00\x02a", &put("", b"", Condition::Always)] {
            assert_eq!(apply(&mut store, 1, bytes), Reply::Invalid);
        }
        let long = "k".repeat(1025);
        assert_eq!(apply(&mut store, 1, &put(&long, b"", Condition::Always)), Reply::Invalid);
        assert!(store.keys.is_empty());
    }

    #[test]
    fn a_snapshot_restores_all_of_it_and_what_is_none_is_refused() {
        let mut store = Store::default();
        apply(&mut store, 2, &put("a", b"1", Condition::Always));
        apply(&mut store, 3, &put("b", b"", Condition::Always));
        apply(&mut store, 4, &put("a", b"22", Condition::Always));
        let mut bytes = Collected::default();
        store.snapshot(&mut bytes);
        let mut other = Store::default();
        apply(&mut other, 1, &put("z", b"old", Condition::Always));
        assert_eq!(other.restore(&mut &bytes.0[..bytes.0.len() - 1]), Err(Damaged));
        assert!(get(&other, "z").is_some(), "what is refused changes nothing");
        assert_eq!(other.restore(&mut bytes.0.as_slice()), Ok(()));
        assert_eq!((get(&other, "a"), get(&other, "z")), (Some((b"22".to_vec(), 4)), None));
        assert_eq!((other.digest(), other.at), (store.digest(), 4));
        apply(&mut other, 5, &put("b", b"x", Condition::Always));
        assert_ne!(other.digest(), store.digest());
    }

    proptest! {
        /// Puts and deletes do to the store what they do to a plain map.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec(("[a-c]", proptest::option::of(any::<u8>())), 0..50)) {
            let (mut store, mut map) = (Store::default(), BTreeMap::new());
            for (index, (key, value)) in steps.iter().enumerate() {
                let index = index as u64 + 1;
                match value {
                    Some(byte) => {
                        prop_assert_eq!(apply(&mut store, index, &put(key, &[*byte], Condition::Always)), Reply::Done);
                        map.insert(key.clone(), (vec![*byte], index));
                    }
                    None => {
                        let delete = encode(&Command::Delete { key, condition: Condition::Always });
                        let expected = if map.remove(key).is_some() { Reply::Done } else { Reply::NotFound };
                        prop_assert_eq!(apply(&mut store, index, &delete), expected);
                    }
                }
            }
            for key in ["a", "b", "c"] {
                prop_assert_eq!(get(&store, key), map.get(key).cloned());
            }
            let sum = store.keys.iter().fold(0_u64, |sum, (key, value)| sum.wrapping_add(hash(key, value)));
            prop_assert_eq!(store.sum, sum);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut store = Store::default();
            apply(&mut store, 1, &bytes);
            store.query(&bytes, &mut Collected::default());
        }
    }
}
