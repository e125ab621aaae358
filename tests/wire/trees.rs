//! Command trees as a third-party server library writes them, and what becomes of them.

use postern::protocol::{command_tree::with_pin_commands, version::Dialect};
use serde_json::Value;

use super::{bytes, dialect, pinned, small, text};

fn trees() -> Vec<(i32, String, Vec<u8>, Vec<u8>)> {
    let one = |tree: &Value| {
        let case = text(&tree["case"]).to_owned();
        (small(&tree["protocol"]), case, bytes(&tree["before"]), bytes(&tree["after"]))
    };
    pinned("trees.json").as_array().unwrap().iter().map(one).collect()
}

/// The bytes of one node, wherever they stand.
fn holds(packet: &[u8], node: &[u8]) -> bool {
    packet.windows(node.len()).any(|part| part == node)
}

#[test]
fn the_commands_are_added_as_others_would_write_them() {
    let trees = trees();
    assert!(trees.len() > 100);
    for (protocol, case, before, after) in &trees {
        let place = format!("{case} at {protocol}");
        let made = with_pin_commands(&dialect(*protocol), before).unwrap_or_else(|| panic!("{place}"));
        assert_eq!(&made, after, "{place}");
        assert!(holds(&made, b"\x06setpin") && holds(&made, b"\x03pin") && holds(&made, b"\x08resetpin"));
    }
    // What comes after the last protocol that the library knows is written alike but for the packet's id, which the ids
    // table has.
    let (_, _, before, after) = trees.iter().rfind(|(protocol, ..)| *protocol == 775).unwrap();
    for later in [776, 777] {
        assert_eq!(with_pin_commands(&dialect(later), before).as_ref(), Some(after));
    }
}

#[test]
fn what_is_not_understood_is_left_alone() {
    let trees = trees();
    for (protocol, case, before, _) in &trees {
        let dialect = dialect(*protocol);
        // Another packet, or none at all where the release has no such packet.
        let mut other = before.clone();
        other[0] ^= 0x40;
        assert_eq!(with_pin_commands(&dialect, &other), None, "{case} at {protocol}");
        // Another root than the first node.
        let mut other = before.clone();
        *other.last_mut().unwrap() = 1;
        assert_eq!(with_pin_commands(&dialect, &other), None, "{case} at {protocol}");
        if case == "own_pin" {
            // Cut anywhere within the root, or anywhere with something else than the root's number at its end.
            for len in 0..before.len() {
                let cut = &before[..len];
                if cut.last() != Some(&0) || len < 5 {
                    assert_eq!(with_pin_commands(&dialect, cut), None, "{len} bytes at {protocol}");
                }
            }
        }
    }
    let (_, _, before, _) =
        trees.iter().find(|(protocol, case, ..)| (*protocol, case.as_str()) == (393, "none")).unwrap();
    for (version, _) in Dialect::releases() {
        let dialect = Dialect::of(version);
        let has_trees = version.0 >= 393;
        let same_id = [393, 401, 404, 477, 480, 485, 490, 498, 735, 736].contains(&version.0)
            || (764..=769).contains(&version.0);
        assert_eq!(with_pin_commands(&dialect, before).is_some(), has_trees && same_id, "{version}");
    }
}

#[test]
fn hostile_trees() {
    let dialect = dialect(765);
    let id = 0x11;
    let root = |count: &[u8], rest: &[u8]| [&[id], count, &[0], rest, &[0]].concat();
    for (packet, why) in [
        (vec![], "nothing"),
        (vec![id], "an id"),
        (vec![id, 0, 0], "no nodes"),
        (root(&[0xff, 0xff, 0xff, 0xff, 0x07], &[0]), "two thousand million nodes"),
        (root(&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0]), "less than no nodes"),
        (root(&[1], &[0xff, 0xff, 0xff, 0xff, 0x07]), "as many children"),
        (root(&[1], &[1, 5]), "a child that is not there"),
        (root(&[3], &[1, 1, 1]), "fewer bytes than its nodes take"),
        (vec![id, 1, 1, 0, 0], "a command in place of the root"),
        (vec![id, 1, 8, 0, 0], "a root that leads elsewhere"),
        (vec![id, 1, 0, 0, 0x80, 0], "a number longer than it need be at the end"),
    ] {
        assert_eq!(with_pin_commands(&dialect, &packet), None, "{why}");
    }
    assert!(with_pin_commands(&dialect, &root(&[1], &[0])).is_some());
}
