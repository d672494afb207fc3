//! What went wrong in other implementations, by the numbers of the list of such bugs: the scripts
//! that show that it does not here.

use crate::difference;

/// Each test replays one script.
macro_rules! scripts {
    ($($test:ident: $script:literal,)*) => {
        $(#[test]
        fn $test() {
            let different = difference(concat!($script, ".txt"));
            assert!(different.is_none(), "{}", different.unwrap_or_default());
        })*
    };
}

scripts! {
    known_bug_10_a_node_alone_leads_only_in_a_new_term: "election_single",
}
