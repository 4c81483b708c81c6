//! Who gets which partition, where a member assigns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::Assignor;
use crate::client::cluster::TopicPartition;

/// What one member said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) member_id: String,
    pub(super) topics: Vec<String>,
    pub(super) owned: Vec<TopicPartition>,
}

/// Partitions for each member that subscribes to their topic.
pub(super) fn assign(
    assignor: Assignor,
    subscribers: &[Subscriber],
    partitions: &BTreeMap<Arc<str>, Vec<i32>>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> =
        subscribers.iter().map(|s| (s.member_id.clone(), Vec::new())).collect();
    match assignor {
        Assignor::Range => range(subscribers, partitions, &mut assigned),
        Assignor::Sticky => sticky(subscribers, partitions, &mut assigned),
    }
    assigned
}

type Assigned = BTreeMap<String, Vec<TopicPartition>>;

fn range(
    subscribers: &[Subscriber],
    partitions: &BTreeMap<Arc<str>, Vec<i32>>,
    assigned: &mut Assigned,
) {
    for (topic, numbers) in partitions {
        let who: BTreeSet<&str> = subscribers
            .iter()
            .filter(|s| s.topics.iter().any(|name| **name == **topic))
            .map(|s| s.member_id.as_str())
            .collect();
        let (Some(each), Some(more)) =
            (numbers.len().checked_div(who.len()), numbers.len().checked_rem(who.len()))
        else {
            continue;
        };
        let mut rest = numbers.iter();
        for (i, member_id) in who.into_iter().enumerate() {
            let count = each + usize::from(i < more);
            let theirs = rest.by_ref().take(count);
            let theirs = theirs
                .map(|partition| TopicPartition { topic: topic.clone(), partition: *partition });
            assigned.entry(member_id.to_owned()).or_default().extend(theirs);
        }
    }
}

/// Everybody keeps what they have up to a fair share; what is left goes to whoever has least.
fn sticky(
    subscribers: &[Subscriber],
    partitions: &BTreeMap<Arc<str>, Vec<i32>>,
    assigned: &mut Assigned,
) {
    let mut free: BTreeSet<TopicPartition> = partitions
        .iter()
        .flat_map(|(topic, numbers)| {
            numbers.iter().map(|n| TopicPartition { topic: topic.clone(), partition: *n })
        })
        .collect();
    let subscribes =
        |s: &Subscriber, tp: &TopicPartition| s.topics.iter().any(|t| **t == *tp.topic);
    let share = free.len().div_ceil(subscribers.len().max(1));
    for subscriber in subscribers {
        let theirs = assigned.entry(subscriber.member_id.clone()).or_default();
        for tp in subscriber.owned.iter().filter(|tp| subscribes(subscriber, tp)) {
            if theirs.len() < share && free.remove(tp) {
                theirs.push(tp.clone());
            }
        }
    }
    for tp in free {
        let able = subscribers.iter().filter(|s| subscribes(s, &tp)).map(|s| &s.member_id);
        let least = able.min_by_key(|id| (assigned.get(*id).map_or(0, Vec::len), *id)).cloned();
        if let Some(member_id) = least {
            assigned.entry(member_id).or_default().push(tp);
        }
    }
    assigned.values_mut().for_each(|theirs| theirs.sort());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as `name:topics:owned`, topics with their number of partitions as `a3`.
    fn check(assignor: Assignor, topics: &str, members: &str, expected: &str) {
        let tp = |text: &str| TopicPartition {
            topic: text[..1].into(),
            partition: text[1..].parse().unwrap(),
        };
        let partitions = topics.split(' ').map(|topic| {
            let TopicPartition { topic, partition: count } = tp(topic);
            (topic, (0..count).collect())
        });
        let subscribers: Vec<Subscriber> = members
            .split(' ')
            .map(|member| {
                let parts: Vec<&str> = member.split(':').collect();
                Subscriber {
                    member_id: parts[0].to_owned(),
                    topics: parts[1].chars().map(String::from).collect(),
                    owned: parts[2].split(',').filter(|t| !t.is_empty()).map(tp).collect(),
                }
            })
            .collect();
        let assigned = assign(assignor, &subscribers, &partitions.collect());
        let text = assigned.iter().map(|(member, theirs)| {
            let theirs: Vec<_> =
                theirs.iter().map(|t| format!("{}{}", t.topic, t.partition)).collect();
            format!("{member}={}", theirs.join(","))
        });
        assert_eq!(text.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn range_gives_neighbours_per_topic_and_the_first_members_more() {
        check(Assignor::Range, "a3 b2", "y:ab: x:ab:", "x=a0,a1,b0 y=a2,b1");
        check(Assignor::Range, "a1", "x:a: y:a:", "x=a0 y=");
        check(Assignor::Range, "a2 b2", "x:a: y:ab:", "x=a0 y=a1,b0,b1");
    }

    #[test]
    fn sticky_moves_as_little_as_it_must() {
        check(Assignor::Sticky, "a4", "x:a:a0,a1,a2,a3 y:a:", "x=a0,a1 y=a2,a3");
        check(Assignor::Sticky, "a4", "x:a:a1 y:a:a2", "x=a0,a1 y=a2,a3");
        // Both say they own it: one of them is out of date.
        check(Assignor::Sticky, "a2", "x:a:a0 y:a:a0", "x=a0 y=a1");
        check(Assignor::Sticky, "a2 b1", "x:a: y:b:b0", "x=a0,a1 y=b0");
    }
}
