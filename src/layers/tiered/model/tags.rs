//! Loads whose values bear tags, the removal of tags, and which entries are live: what the wrapper
//! does with a near level below it.

use super::history::{Content, Tag};
use super::node::{Caller, Purpose, name};
use super::purposes::{EntryRead, For, Load};
use super::run::{Event, Run};
use super::server::Request;
use super::settings::{Fault, Invariant, MS, TAGS};
use crate::layers::tiered::core::Changed;

impl Run {
    fn any_record(&mut self) -> usize {
        self.shape.keys + self.rng.usize(..TAGS)
    }

    /// A key, or rarely the record of a tag.
    pub(super) fn any_key_or_record(&mut self) -> usize {
        if self.rng.u8(..) < 32 { self.any_record() } else { self.any_key() }
    }

    pub(super) fn remove_tag(&mut self, node: usize) {
        let record = self.any_record();
        self.write(node, record, Request::Remove(record));
    }

    // ---- loads

    pub(super) fn load(&mut self, node: usize, key: usize, life: Option<u64>) {
        let (one, other) = (self.any_record(), self.any_record());
        let unknown = |record| Tag { record, generation: 0 };
        let tags = [Some(unknown(one)), (one != other).then(|| unknown(other))];
        let load = Load { key, life, tags, known: 0, from: self.schedule.now };
        if self.fault == Fault::RecordsAfterLoad {
            self.compute(node, load);
        } else {
            self.read_records(node, load);
        }
    }

    fn compute(&mut self, node: usize, load: Load) {
        let life = self.nodes[node].life;
        let done = self.schedule.now + self.rng.u64(..60 * MS);
        self.schedule.at(done, Event::Loaded { node, life, load });
    }

    /// The value of a load is computed.
    pub(super) fn loaded(&mut self, node: usize, load: Load) {
        if self.fault == Fault::RecordsAfterLoad {
            self.read_records(node, load);
        } else {
            self.store(node, load);
        }
    }

    /// Reads the records whose generations are not known yet.
    fn read_records(&mut self, node: usize, load: Load) {
        if self.is_over {
            return;
        }
        match load.next() {
            Some(tag) => self.read_for(node, tag.record, true, For::Load(load)),
            None if self.fault == Fault::RecordsAfterLoad => self.store(node, load),
            None => self.compute(node, Load { from: self.schedule.now, ..load }),
        }
    }

    fn store(&mut self, node: usize, Load { key, life, tags, from, .. }: Load) {
        if !self.is_over {
            let content = Content::Value { tags, loaded_from: from };
            self.write(node, key, Request::Set { key, content, life });
        }
    }

    /// A load has read a record. If there is none, the load makes one.
    pub(super) fn record_of_load(&mut self, node: usize, load: Load, found: Content) {
        if let Content::Record(generation) = found {
            return self.read_records(node, load.learn(generation));
        }
        let Some(Tag { record, .. }) = load.next().filter(|_| !self.is_over) else { return };
        self.generations += 1;
        let is_same = self.fault == Fault::GenerationsAgain;
        let generation = if is_same { record as u64 } else { self.generations };
        self.nodes[node].changed(record);
        drop(self.nodes[node].core.begin_write(Changed::Key(&name(record))));
        let request = Request::Add { record, generation };
        self.send_write(node, record, Purpose::Add { record, load }, request);
    }

    /// The answer to the making of a record. Where another load was faster, its record is read.
    pub(super) fn added(&mut self, node: usize, record: usize, state: Option<u32>, load: Load) {
        let Some(state) = state else { return self.read_records(node, load) };
        self.written(node, record, state);
        let content = self.history.state(record, state).content;
        self.record_of_load(node, load, content);
    }

    // ---- reads

    /// A caller has read a key: an entry with tags is judged by its records.
    pub(super) fn judge(&mut self, node: usize, caller: Caller, content: Content) {
        let Content::Value { tags: [Some(_), _], .. } = content else { return };
        let Caller { key, begun, is_far, .. } = caller;
        self.judge_next(node, EntryRead { key, content, begun, is_far, judged: 0 });
    }

    fn judge_next(&mut self, node: usize, entry: EntryRead) {
        let Content::Value { tags, .. } = entry.content else { return };
        match tags.get(entry.judged).copied().flatten() {
            Some(tag) => self.read_for(node, tag.record, entry.is_far, For::Entry(entry)),
            None => self.served(node, entry.key, entry.content, entry.begun),
        }
    }

    /// A record of an entry was read.
    pub(super) fn record_of_entry(&mut self, node: usize, mut entry: EntryRead, found: Content) {
        let Content::Value { tags, .. } = entry.content else { return };
        let borne = tags[entry.judged].map(|tag| Content::Record(tag.generation));
        if borne == Some(found) {
            entry.judged += 1;
            return self.judge_next(node, entry);
        }
        self.report.dead += 1;
        self.missed(node, entry.key);
    }

    /// An entry with tags is served.
    pub(super) fn served(&mut self, node: usize, key: usize, content: Content, begun: u64) {
        self.report.tagged += 1;
        let reader = (node, self.nodes[node].life);
        let (age, mut broken) = self.history.dead_for(content, begun, reader);
        self.report.oldest = self.report.oldest.max(age);
        if begun >= self.equal_from && !self.is_live(content) {
            broken = Some(Invariant::Equal);
        }
        if let Some(broken) = broken {
            let now = self.schedule.now;
            let what = || format!("node {node}, key {key}, begun {begun}, now {now}: {content:?}");
            self.report.violation(broken, what);
        }
    }

    fn is_live(&self, content: Content) -> bool {
        let Content::Value { tags, .. } = content else { return false };
        tags.into_iter().flatten().all(|Tag { record, generation }| {
            let present = self.history.present(record);
            self.history.state(record, present).content == Content::Record(generation)
        })
    }
}
