//! What references stand for at a moment of a conversation.

use kafka_wire::schema::Value;

use super::talk::{Producer, Talk};
use crate::scenario::answer::Came;
use crate::scenario::conversation::Step;
use crate::scenario::value::{self, BatchSaid, Meaning};

/// What references stand for at a moment of a conversation.
pub(super) struct Now<'t, 'c, 'g> {
    pub(super) talk: &'t Talk<'c, 'g>,
    pub(super) step: &'t Step,
    pub(super) sequence: Option<i32>,
}

impl Now<'_, '_, '_> {
    fn partition(&self) -> Result<(String, i32), String> {
        let text = self.step.partition.as_deref().ok_or("the step names no partition")?;
        let (topic, number) = self.talk.conversation.partition(text)?;
        Ok((self.talk.ground.names.of(topic), number))
    }

    fn of_producer(&self, producer: &Producer, field: &str) -> Result<Value, String> {
        let unknown = || format!("its {field} is not known: InitProducerId comes first");
        match field {
            "id" => producer.id.map(Value::Int).ok_or_else(unknown),
            "epoch" => producer.epoch.map(Value::from).ok_or_else(unknown),
            "transactional_id" => Ok(producer.transactional_id.clone().into()),
            other => Err(format!("a producer has id, epoch and transactional_id, no {other}")),
        }
    }

    fn batch(&self) -> Result<Value, String> {
        let by = self.step.by.as_ref().and_then(|by| self.talk.producers.get(by));
        let own_id = by.and_then(|producer| producer.id).unwrap_or(-1);
        let own_epoch = by.and_then(|producer| producer.epoch).map_or(-1, i64::from);
        let said = BatchSaid {
            producer_id: value::stated(self.step.producer_id.as_ref(), own_id, self)?,
            producer_epoch: value::stated(self.step.producer_epoch.as_ref(), own_epoch, self)?
                as i16,
            base_sequence: self.sequence.unwrap_or(-1),
            transactional: by.is_some_and(|producer| producer.transactional_id.is_some()),
            values: self.step.values.as_deref().unwrap_or_default(),
            unix_ms: self.talk.board.conduct.clock.unix_ms(),
        };
        Ok(Value::Bytes(value::records(&said)))
    }
}

impl Meaning for Now<'_, '_, '_> {
    fn of(&self, reference: &str) -> Result<Value, String> {
        let missing = |what: &str| format!("${reference}: the step says no {what}");
        let (first, rest) = reference.split_once('.').unwrap_or((reference, ""));
        let step = self.step;
        match (first, rest) {
            ("by", "id") if step.producer_id.is_some() => {
                value::stated(step.producer_id.as_ref(), -1, self).map(Value::Int)
            }
            ("by", "epoch") if step.producer_epoch.is_some() => {
                value::stated(step.producer_epoch.as_ref(), -1, self).map(Value::Int)
            }
            ("by", field) => {
                let by = step.by.as_ref().and_then(|by| self.talk.producers.get(by));
                self.of_producer(by.ok_or_else(|| missing("by"))?, field)
            }
            ("topic", "") => Ok(self.partition()?.0.into()),
            ("topic", name) => Ok(self.talk.ground.names.of(name).into()),
            ("partition", "") => Ok(self.partition()?.1.into()),
            ("records", "") => self.batch(),
            ("group", "") => {
                let group = step.group.as_ref().ok_or_else(|| missing("group"))?;
                Ok(self.talk.ground.names.of(group).into())
            }
            ("group", name) => Ok(self.talk.ground.names.of(name).into()),
            ("offset", "") => step.offset.map(Value::Int).ok_or_else(|| missing("offset")),
            ("committed", "") => {
                step.committed.map(Value::Bool).ok_or_else(|| missing("committed"))
            }
            (name, field) => {
                if let Some(producer) = self.talk.producers.get(name) {
                    return self.of_producer(producer, field);
                }
                let spoken = self.talk.spoken.get(name);
                let came = spoken.and_then(|spoken| spoken.came.as_ref());
                match came {
                    Some(Came::Answer(fields)) => fields
                        .at(field)
                        .cloned()
                        .ok_or_else(|| format!("the answer to {name} has no {field}")),
                    _ => Err(format!("${reference}: {name} was not answered")),
                }
            }
        }
    }
}
