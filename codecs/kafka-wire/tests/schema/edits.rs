//! An edit in place gives the same bytes as the edited tree, encoded.

use kafka_wire::ApiKey;
use kafka_wire::schema::{
    self, Direction, Edit, EditError, FieldId, Fields, Layout, Limits, Value,
};

use crate::random::Random;
use crate::{every_layout, name};

/// Every path of a tree, with its field and whether it is an element.
fn paths(layout: &Layout, tree: &Fields) -> Vec<(String, FieldId, bool)> {
    let mut paths = Vec::new();
    let mut open: Vec<(String, &Fields, Option<FieldId>)> = vec![(String::new(), tree, None)];
    while let Some((at, fields, parent)) = open.pop() {
        for (name, value) in fields.iter() {
            let path = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
            let plain = match parent {
                Some(parent) => format!("{}.{name}", layout.path(parent)),
                None => name.to_owned(),
            };
            let id = layout.find(&plain).unwrap();
            match value {
                Value::Struct(fields) => open.push((path.clone(), fields, Some(id))),
                Value::Array(elements) => {
                    for (index, element) in elements.iter().enumerate() {
                        let path = format!("{path}[{index}]");
                        if let Value::Struct(fields) = element {
                            open.push((path.clone(), fields, Some(id)));
                        }
                        paths.push((path, id, true));
                    }
                }
                _ => {}
            }
            paths.push((path, id, false));
        }
    }
    paths
}

/// Trees with something of every field to edit.
fn every_edit(
    mut check: impl FnMut(&'static Layout, &Fields, &[u8], &str, FieldId, bool, &mut Random),
) {
    for (n, layout) in every_layout().enumerate() {
        let mut random = Random(n as u64);
        for _ in 0..3 {
            let tree = random.tree(layout);
            let body = layout.encode(&tree).unwrap();
            let paths = paths(layout, &tree);
            for (path, id, element) in paths.iter().take(400) {
                check(layout, &tree, &body, path, *id, *element, &mut random);
            }
        }
    }
}

#[test]
fn setting_a_field_in_place_is_setting_it_in_the_tree() {
    every_edit(|layout, tree, body, path, id, element, random| {
        let value = match element {
            true => random.element(layout, id, layout.field(id)),
            false => random.value(layout, id),
        };
        let edited = layout.edit(body, path, &Edit::Set(value.clone())).unwrap();
        let mut tree = tree.clone();
        *tree.at_mut(path).unwrap() = value;
        assert_eq!(edited, layout.encode(&tree).unwrap(), "{} {path}", name(layout));
    });
}

#[test]
fn repeating_and_removing_elements_keeps_counts_and_sizes_right() {
    every_edit(|layout, tree, body, path, _, element, _| {
        if !element {
            let refused = layout.edit(body, path, &Edit::Remove).unwrap_err();
            assert_eq!(refused, EditError::NoElement(path.to_owned()));
            return;
        }
        let (array, index) = path.rsplit_once('[').unwrap();
        let index: usize = index.trim_end_matches(']').parse().unwrap();
        let with = |change: fn(&mut Vec<Value>, usize)| {
            let mut tree = tree.clone();
            let Some(Value::Array(elements)) = tree.at_mut(array) else { panic!("{array}") };
            change(elements, index);
            layout.encode(&tree).unwrap()
        };
        let removed = layout.edit(body, path, &Edit::Remove).unwrap();
        assert_eq!(removed, with(|v, i| drop(v.remove(i))), "{} {path}", name(layout));
        let repeated = layout.edit(body, path, &Edit::Repeat).unwrap();
        assert_eq!(repeated, with(|v, i| v.insert(i, v[i].clone())), "{} {path}", name(layout));
    });
}

#[test]
fn rewriting_by_lookup_is_rewriting_the_tree() {
    // Produce v10 has hosts in a tagged field and, in each partition, numbers in another.
    let layout = schema::layout(ApiKey::PRODUCE, Direction::Response, 10).unwrap();
    let lookup = layout
        .lookup(&["node_endpoints.host", "responses.partition_responses.current_leader.leader_id"])
        .unwrap();
    for seed in 0..500 {
        let tree = Random(seed).tree(layout);
        let body = layout.encode(&tree).unwrap();
        let host = "h".repeat(seed as usize);
        let edited = lookup
            .rewrite(&body, |hit| match hit.slot {
                0 => Some(Value::from(host.as_str())),
                _ => Some(Value::from(7)),
            })
            .unwrap();
        let mut expected = tree.clone();
        for (path, id, _) in paths(layout, &tree) {
            if layout.path(id).ends_with("node_endpoints.host") {
                *expected.at_mut(&path).unwrap() = Value::from(host.as_str());
            } else if layout.path(id).ends_with("leader_id") {
                *expected.at_mut(&path).unwrap() = Value::from(7);
            }
        }
        assert_eq!(layout.decode(&edited.body, Limits::default()).fields, expected);
        assert_eq!(edited.body, layout.encode(&expected).unwrap());
    }
}

#[test]
fn a_body_that_stops_halfway_is_edited_up_to_there() {
    let layout = schema::layout(ApiKey::FIND_COORDINATOR, Direction::Response, 0).unwrap();
    let lookup = layout.lookup(&["host", "port"]).unwrap();
    let body = [0, 0, 0, 0, 0, 1, 0, 2, b'k', b'1', 0, 0];
    let edited = lookup.rewrite(&body, |hit| (hit.slot == 0).then(|| "a".into())).unwrap();
    assert_eq!(edited.body, [0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0]);
    assert_eq!((edited.count, edited.walked.stopped.unwrap().path.as_str()), (1, "port"));
    let missing = layout.edit(&body, "port", &Edit::Set(1.into())).unwrap_err();
    assert_eq!(missing.to_string(), "the body has no port");
    let wrong = lookup.rewrite(&body, |_| Some(Value::Null)).unwrap_err();
    assert_eq!(wrong.to_string(), "host cannot be null in this version");
}
