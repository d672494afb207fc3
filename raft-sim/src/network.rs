//! The simulated network between nodes and clients: what becomes of each packet.

use std::collections::{BTreeMap, BTreeSet};

use crate::options::NetworkOptions;
use crate::random::Random;

/// The most packets that are remembered, to arrive once more some day.
const OLD_PACKETS_MAX: usize = 512;

/// Something with an address: a node, by its id, or a client, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Node(u64),
    Client(usize),
}

/// A link takes nothing more while what it was given needs longer than this, in microseconds.
const LINK_BUFFER_MICROS: u64 = 5_000;

/// What may be changed on the way.
pub(crate) trait Parcel: Clone {
    /// The bytes on the wire.
    fn bytes(&mut self) -> &mut Vec<u8>;
    /// Takes note that they were changed.
    fn damaged(&mut self);
    /// Whether it may arrive more than once.
    fn may_repeat(&self) -> bool;
}

/// The links between all places.
#[derive(Debug)]
pub(crate) struct Links<P> {
    random: Random,
    pub(crate) options: NetworkOptions,
    /// From where to where nothing passes.
    cut: BTreeSet<(Place, Place)>,
    /// Between whom everything passes as it should, whatever else holds.
    safe: BTreeSet<Place>,
    old: Vec<(Place, Place, P)>,
    /// Until when each link is at work with what was sent over it.
    busy_until: BTreeMap<(Place, Place), u64>,
    /// Packets so far: all, lost, doubled, replayed, damaged.
    pub(crate) counts: PacketCounts,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketCounts {
    pub(crate) sent: u64,
    pub(crate) cut: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) replayed: u64,
    pub(crate) damaged: u64,
    pub(crate) slow: u64,
}

/// A packet that will arrive after so many microseconds.
pub(crate) type Arrival<P> = (u64, Place, Place, P);

impl<P: Parcel> Links<P> {
    pub(crate) fn new(random: Random, options: NetworkOptions) -> Links<P> {
        Links {
            random,
            options,
            cut: BTreeSet::new(),
            safe: BTreeSet::new(),
            old: Vec::new(),
            busy_until: BTreeMap::new(),
            counts: PacketCounts::default(),
        }
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    pub(crate) fn mend(&mut self, from: Place, to: Place) {
        self.cut.remove(&(from, to));
    }

    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut.contains(&(from, to)) && !self.is_safe(from, to)
    }

    pub(crate) fn cuts(&self) -> usize {
        self.cut.len()
    }

    /// From now on packets arrive once, in time and whole; where a link is cut, none does.
    pub(crate) fn calm_down(&mut self) {
        let NetworkOptions { latency_min, latency_max, .. } = self.options;
        self.options = NetworkOptions { latency_min, latency_max, ..NetworkOptions::default() };
    }

    /// From now on everything between these passes as it should.
    pub(crate) fn make_safe(&mut self, places: impl IntoIterator<Item = Place>) {
        self.safe = places.into_iter().collect();
    }

    /// Clients that are safe reach every node: whoever leads must be able to answer them.
    fn is_safe(&self, from: Place, to: Place) -> bool {
        let with_client = matches!(from, Place::Client(_)) || matches!(to, Place::Client(_));
        let (from, to) = (self.safe.contains(&from), self.safe.contains(&to));
        (from && to) || (with_client && (from || to))
    }

    fn latency(&mut self) -> u64 {
        self.random.between(self.options.latency_min, self.options.latency_max)
    }

    /// Whether the buffer of a link is full.
    pub(crate) fn is_full(&self, now: u64, from: Place, to: Place) -> bool {
        let behind = |until: &u64| *until > now + LINK_BUFFER_MICROS;
        !self.is_safe(from, to) && self.busy_until.get(&(from, to)).is_some_and(behind)
    }

    /// How long a packet waits for those before it, and is on the line itself.
    fn on_the_line(&mut self, now: u64, link: (Place, Place), parcel: &mut P) -> u64 {
        let rate = self.options.bytes_per_milli;
        if rate == 0 {
            return 0;
        }
        let takes = parcel.bytes().len() as u64 * 1_000 / rate;
        let until = self.busy_until.entry(link).or_default();
        *until = (*until).max(now) + takes;
        *until - now
    }

    /// What comes of a packet that is sent: it arrives never, once, or several times; and one of long ago may arrive
    /// with it.
    pub(crate) fn send(&mut self, now: u64, (from, to): (Place, Place), parcel: P, arrivals: &mut Vec<Arrival<P>>) {
        self.counts.sent += 1;
        let safe = self.is_safe(from, to);
        let options = self.options;
        let repeats = parcel.may_repeat();
        if !safe && options.replayed > 0 {
            if repeats {
                self.remember(from, to, &parcel);
            }
            if self.random.chance(options.replayed)
                && let Some((from, to, old)) = self.random.pick(&self.old).cloned()
            {
                self.counts.replayed += 1;
                arrivals.push((options.latency_min, from, to, old));
            }
        }
        if safe {
            return arrivals.push((options.latency_min, from, to, parcel));
        }
        if self.cut.contains(&(from, to)) {
            self.counts.cut += 1;
            return;
        }
        if self.random.chance(options.lost) {
            self.counts.lost += 1;
            return;
        }
        if repeats && self.random.chance(options.doubled) {
            self.counts.doubled += 1;
            let after = self.latency() + self.random.below(options.slow_max);
            arrivals.push((after, from, to, parcel.clone()));
        }
        let mut parcel = parcel;
        let mut after = self.latency() + self.on_the_line(now, (from, to), &mut parcel);
        if self.random.chance(options.slow) {
            self.counts.slow += 1;
            after += self.random.below(options.slow_max);
        }
        let parcel = if self.random.chance(options.damaged) { self.damage(parcel) } else { parcel };
        arrivals.push((after, from, to, parcel));
    }

    fn remember(&mut self, from: Place, to: Place, parcel: &P) {
        let packet = (from, to, parcel.clone());
        if self.old.len() < OLD_PACKETS_MAX {
            self.old.push(packet);
            return;
        }
        // Some stay for long: each has the same chance to be replaced, however old it is.
        if self.random.chance(100_000) {
            let at = usize::try_from(self.random.below(OLD_PACKETS_MAX as u64)).unwrap_or(0);
            if let Some(place) = self.old.get_mut(at) {
                *place = packet;
            }
        }
    }

    /// Changes bits of a packet: some that are next to each other, and some that are anywhere.
    fn damage(&mut self, mut parcel: P) -> P {
        self.counts.damaged += 1;
        let bits = parcel.bytes().len() as u64 * 8;
        let first = self.random.below(bits);
        let near = self.random.between(1, 4);
        let far = self.random.below(4);
        let near = (0..near).map(|flip| (first + flip) % bits.max(1));
        let flips: BTreeSet<u64> = near.chain((0..far).map(|_| self.random.below(bits))).collect();
        for bit in flips {
            let at = usize::try_from(bit / 8).unwrap_or(0);
            if let Some(byte) = parcel.bytes().get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        parcel.damaged();
        parcel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Parcel for Vec<u8> {
        fn bytes(&mut self) -> &mut Vec<u8> {
            self
        }

        fn damaged(&mut self) {}

        fn may_repeat(&self) -> bool {
            true
        }
    }

    fn arrivals(links: &mut Links<Vec<u8>>, packets: usize) -> Vec<Arrival<Vec<u8>>> {
        let mut arrivals = Vec::new();
        for number in 0..packets {
            let bytes = u64::try_from(number).unwrap().to_le_bytes().to_vec();
            links.send(0, (Place::Node(1), Place::Node(2)), bytes, &mut arrivals);
        }
        arrivals
    }

    #[test]
    fn a_calm_network_brings_every_packet_once_within_its_latency() {
        let options = NetworkOptions { latency_min: 5, latency_max: 9, ..NetworkOptions::default() };
        let mut links = Links::new(Random::new(1), options);
        let arrivals = arrivals(&mut links, 100);
        assert_eq!(arrivals.len(), 100);
        assert!(arrivals.iter().all(|(after, ..)| (5..=9).contains(after)));
    }

    #[test]
    fn each_fault_happens_and_none_between_safe_places() {
        let options = NetworkOptions {
            latency_max: 10,
            lost: 100_000,
            doubled: 100_000,
            replayed: 100_000,
            damaged: 100_000,
            slow: 100_000,
            slow_max: 1_000,
            ..NetworkOptions::default()
        };
        let mut links = Links::new(Random::new(1), options);
        arrivals(&mut links, 1_000);
        let PacketCounts { lost, doubled, replayed, damaged, slow, .. } = links.counts;
        assert!([lost, doubled, replayed, damaged, slow].iter().all(|count| (30..300).contains(count)));
        links.make_safe([Place::Node(1), Place::Node(2)]);
        links.cut(Place::Node(1), Place::Node(2));
        assert_eq!(arrivals(&mut links, 100).len(), 100);
        assert!(!links.is_cut(Place::Node(1), Place::Node(2)));
    }

    #[test]
    fn a_narrow_link_brings_packets_one_after_the_other_and_says_when_it_is_full() {
        let options =
            NetworkOptions { latency_min: 5, latency_max: 5, bytes_per_milli: 1, ..NetworkOptions::default() };
        let mut links = Links::new(Random::new(1), options);
        let (here, there) = (Place::Node(1), Place::Node(2));
        assert!(!links.is_full(0, here, there));
        // Each has eight bytes, and so takes eight milliseconds.
        let after: Vec<u64> = arrivals(&mut links, 3).into_iter().map(|(after, ..)| after).collect();
        assert_eq!(after, [8_005, 16_005, 24_005]);
        assert!(links.is_full(18_000, here, there) && !links.is_full(19_000, here, there));
        assert!(!links.is_full(0, there, here));
        links.make_safe([here, there]);
        assert!(!links.is_full(18_000, here, there));
    }

    #[test]
    fn a_cut_is_one_way() {
        let mut links = Links::new(Random::new(1), NetworkOptions::default());
        links.cut(Place::Node(2), Place::Node(1));
        assert_eq!(arrivals(&mut links, 10).len(), 10);
        links.cut(Place::Node(1), Place::Node(2));
        assert_eq!(arrivals(&mut links, 10).len(), 0);
        links.mend(Place::Node(1), Place::Node(2));
        assert_eq!(arrivals(&mut links, 10).len(), 10);
    }
}
