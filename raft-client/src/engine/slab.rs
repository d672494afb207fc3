//! Values at small numbers that are used again, so that finding one needs no hash; with a
//! generation, so that an old number finds nothing: no two values ever have the same place, for one
//! whose generations are used up is not used again.

use raft_core::client::protocol::RequestId;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    generation: u32,
    index: u32,
}

impl Place {
    /// The small number.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

impl From<Place> for RequestId {
    fn from(place: Place) -> RequestId {
        RequestId(u64::from(place.generation) << 32 | u64::from(place.index))
    }
}

impl From<RequestId> for Place {
    #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
    fn from(id: RequestId) -> Place {
        Place { generation: (id.0 >> 32) as u32, index: id.0 as u32 }
    }
}

/// Values, each at its place. The place freed last is used first, since it is in the cache.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// How many slots are not used again.
    retired: usize,
}

/// A slot of this generation is not used again.
const GENERATIONS_MAX: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new(), retired: 0 }
    }

    /// How many places are in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len() - self.retired
    }

    pub(super) fn insert(&mut self, value: T) -> Place {
        if let Some(index) = self.free.pop() {
            let slot = self.slots.get_mut(index as usize).expect("free places lie within the slab");
            slot.value = Some(value);
            return Place { generation: slot.generation, index };
        }
        let index = u32::try_from(self.slots.len()).expect("memory ends long before four billion values");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Place { generation: 0, index }
    }

    pub(super) fn get(&self, place: Place) -> Option<&T> {
        let slot = self.slots.get(place.index())?;
        slot.value.as_ref().filter(|_| slot.generation == place.generation)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let slot = self.slots.get_mut(place.index())?;
        slot.value.as_mut().filter(|_| slot.generation == place.generation)
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        let value = self.take(place)?;
        self.release(place);
        Some(value)
    }

    /// Takes a value away, so that its place finds nothing, but keeps the place from being used
    /// again until [`Slab::release`].
    pub(super) fn take(&mut self, place: Place) -> Option<T> {
        self.get(place)?;
        let slot = self.slots.get_mut(place.index())?;
        let value = slot.value.take();
        slot.generation = slot.generation.saturating_add(1);
        value
    }

    /// Gives back the place of a value that was taken. Once only.
    pub(super) fn release(&mut self, place: Place) {
        debug_assert!(!self.free.contains(&place.index), "a place is given back once");
        let slot = self.slots.get(place.index());
        if slot.is_some_and(|slot| slot.generation < GENERATIONS_MAX) {
            self.free.push(place.index);
        } else {
            self.retired += 1;
        }
    }

    /// The full place of the value that stands at a small number now.
    pub(super) fn place_at(&self, index: usize) -> Option<Place> {
        let slot = self.slots.get(index)?;
        slot.value.as_ref()?;
        Some(Place { generation: slot.generation, index: u32::try_from(index).ok()? })
    }

    /// The places in use.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.slots.len()).filter_map(|index| self.place_at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_old_ones_find_nothing() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (Some(&'a'), Some(&'b'), 2));
        assert_eq!(slab.remove(a), Some('a'));
        let c = slab.insert('c');
        assert_eq!(c.index(), a.index());
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.take(c), Some('c'));
        assert_eq!((slab.get(c), slab.len()), (None, 2));
        assert_ne!(slab.insert('d').index(), c.index());
        slab.release(c);
        let c = slab.insert('e');
        assert_eq!(c.index(), a.index());
        slab.remove(Place { generation: 0, index: 2 });
        assert_eq!(slab.places().collect::<Vec<_>>(), [c, b]);
        assert_eq!(Place::from(RequestId::from(c)), c);
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_not_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        slab.slots[0].generation = GENERATIONS_MAX - 1;
        let last = Place { generation: GENERATIONS_MAX - 1, ..first };
        assert_eq!(slab.remove(last), Some('a'));
        assert_eq!((slab.len(), slab.get(first), slab.get(last)), (0, None, None));
        let next = slab.insert('b');
        assert_eq!((next.index(), slab.len()), (1, 1));
    }
}
