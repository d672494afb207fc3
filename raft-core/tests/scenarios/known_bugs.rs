//! What went wrong in other implementations, by the numbers of the list of such bugs: the scripts
//! that show that it does not here. Others have a test in `tests/known_bugs`, or beside the rule.

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

// Elections, terms and votes.
scripts! {
    known_bug_02_no_vote_is_asked_for_before_the_own_one_is_durable: "vote_not_before_saved",
    known_bug_05_a_vote_is_given_once_in_a_term_whatever_happens: "one_vote_per_term",
    known_bug_06_a_candidate_of_a_higher_term_with_an_older_log_is_not_granted: "short_log_cannot_win",
    known_bug_07_logs_are_compared_by_their_last_term_before_their_length: "short_log_cannot_win",
    known_bug_08_a_compacted_log_is_compared_by_its_last_entry: "compacted_node_leads",
    known_bug_10_a_node_alone_leads_in_a_new_term: "election_single",
    known_bug_13_terms_that_differ_elect_somebody: "pre_vote_spreads_a_higher_term",
    known_bug_14_a_pre_candidate_has_forgotten_the_dead_leader: "pre_vote_of_old_leader",
    known_bug_15_a_long_log_of_a_low_term_and_a_short_one_of_a_high_term_elect_somebody: "pre_vote_spreads_a_higher_term",
    known_bug_16_the_old_leaders_pre_vote_is_granted: "pre_vote_of_old_leader",
    known_bug_17_a_node_that_comes_back_disturbs_nobody: "pre_vote_does_not_disturb",
    known_bug_18_a_late_pre_vote_answer_moves_no_leader: "pre_vote_late_answer",
    known_bug_19_a_bridge_helps_to_elect_when_its_leader_has_lost_the_quorum: "check_quorum",
    known_bug_19_a_bridge_itself_is_elected: "bridge_node",
    known_bug_20_who_answers_busy_tells_its_term: "higher_term_in_every_reply",
    known_bug_21_a_node_alone_is_elected_once: "election_single",
}

// Commitment and the log.
scripts! {
    known_bug_22_entries_of_earlier_terms_are_not_committed_by_counting: "figure_8",
    known_bug_23_what_was_acknowledged_is_not_rolled_back: "old_append_does_not_truncate",
    known_bug_24_only_what_contradicts_is_dropped: "old_append_does_not_truncate",
    known_bug_26_a_follower_commits_what_is_known_to_match: "commit_only_what_matches",
    known_bug_27_a_late_save_confirms_no_later_entry: "stale_save_after_truncation",
    known_bug_28_late_answers_take_nothing_back: "reordered_appends",
    known_bug_30_an_acknowledgement_covers_what_is_durable: "ack_only_of_saved",
    known_bug_31_a_node_alone_answers_after_its_sync: "slow_disk_alone",
    known_bug_34_a_probe_over_a_compacted_range_becomes_a_snapshot: "probe_over_compacted_range",
    known_bug_38_nothing_is_applied_before_it_is_durable_here: "own_append_counts_when_saved",
    known_bug_39_a_follower_that_answers_again_gets_the_rest: "slow_follower",
    known_bug_39_what_is_committed_makes_room: "busy",
    known_bug_42_a_log_that_was_cut_and_has_no_room_ends_where_it_was_cut: "full_log_after_conflict",
    known_bug_42_and_its_members_are_those_of_before: "full_log_after_change_dropped",
}

// Reads.
scripts! {
    known_bug_43_no_read_before_the_leader_has_committed_in_its_term: "read_before_commit",
    known_bug_43_nor_through_a_follower: "read_follower_before_commit",
    known_bug_44_answers_of_before_confirm_no_read: "read_leader",
    known_bug_44_a_deposed_leader_answers_no_read: "read_deposed_leader",
    known_bug_46_no_lease_read_while_leadership_is_handed_over: "lease_not_while_handing_over",
    known_bug_47_a_new_leader_waits_out_the_lease: "lease_waited_out",
    known_bug_47_a_leader_that_is_cut_off_answers_no_read_after_its_lease: "lease_ends",
}

// Members.
scripts! {
    known_bug_49_two_leaders_change_from_one_base_in_vain: "two_leaders_change_members",
    known_bug_50_a_snapshot_holds_no_change_that_is_not_committed: "change_rolled_back_after_compaction",
    known_bug_51_members_of_a_dropped_change_hold_no_more: "change_rolled_back",
    known_bug_51_nor_after_a_restart: "change_rolled_back_after_restart",
    known_bug_52_a_snapshot_holds_both_halves: "snapshot_joint",
    known_bug_53_a_new_leader_leaves_the_joint_configuration: "joint_left_by_new_leader_uncommitted",
    known_bug_53_and_does_so_when_it_was_committed_before: "joint_left_by_new_leader_committed",
    known_bug_53_and_does_so_once: "joint_left_by_new_leader_leaving",
    known_bug_53_leaving_waits_for_a_hand_over: "change_and_transfer",
    known_bug_54_members_hold_from_the_log_and_not_from_the_state_machine: "campaign_before_applying",
    known_bug_55_a_learner_votes_when_asked_and_never_campaigns: "learner_never_campaigns_and_votes_when_asked",
    known_bug_56_a_removed_candidate_campaigns_no_more: "candidate_removed",
    known_bug_56_a_demoted_leader_ends_its_change: "leader_demoted",
    known_bug_56_a_removed_leader_does_not_count_itself: "leader_removed_hands_over",
    known_bug_57_a_new_voter_leads_when_it_has_all_entries: "transfer_to_new_voter",
    known_bug_57_a_hand_over_goes_on_behind_a_snapshot: "transfer_with_snapshot",
    known_bug_58_learners_are_no_part_of_a_quorum: "check_quorum_without_learners",
    known_bug_59_one_change_at_a_time_and_never_the_last_voter: "change_refused",
    known_bug_59_a_change_waits_for_the_last_one: "change_waits_for_the_last",
    known_bug_59_a_minority_does_not_make_itself_a_majority: "change_in_minority",
}

// Snapshots and storages that forgot.
scripts! {
    known_bug_60_a_redundant_snapshot_touches_nothing: "snapshot_redundant",
    known_bug_60_a_snapshot_ends_when_the_follower_has_come_so_far: "snapshot_needed_no_more",
    known_bug_61_a_wiped_node_does_not_vote: "amnesia_does_not_vote",
    known_bug_61_a_wiped_node_counts_no_more: "amnesia_wiped",
    known_bug_61_nor_one_whose_disk_went_back: "amnesia_rolled_back",
}
