// Runs once in every fresh context, before the reducer is there: takes away what a reducer must not
// have, so that equal events make equal state, and freezes the rest, so that nothing but the state goes
// from one event to the next. Its value makes the function that folds one event, out of a function that
// makes the reducer anew.
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const { defineProperty, freeze, getPrototypeOf, getOwnPropertyDescriptor } = Object;
  const { ownKeys, apply } = Reflect;
  const { isArray } = Array;
  const Pledge = Promise;

  const refuse = (why) =>
    function () {
      throw new TypeError(why);
    };
  const put = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });

  const noClock = "Date is a clock, and a reducer has none: take event.time";
  const NoDate = refuse(noClock);
  for (const name of ["now", "parse", "UTC"]) put(NoDate, name, refuse(noClock));
  put(globalThis, "Date", NoDate);
  put(Math, "random", refuse("Math.random is chance, and a reducer has none: take it from the event"));

  const noSource = "a reducer makes no code from text: write it as a function";
  put(globalThis, "eval", refuse(noSource));
  put(globalThis, "Function", refuse(noSource));
  const functions = [function () {}, function* () {}, async function () {}, async function* () {}];
  for (const made of functions) put(getPrototypeOf(made), "constructor", refuse(noSource));

  const noLater = "a reducer has no later: no promises, no timers, no async";
  for (const name of ["Promise", "queueMicrotask", "setTimeout", "setInterval"]) {
    put(globalThis, name, refuse(noLater));
  }
  for (const name of ["all", "allSettled", "any", "race", "reject", "resolve", "try", "withResolvers"]) {
    put(globalThis.Promise, name, refuse(noLater));
  }
  put(Pledge.prototype, "constructor", refuse(noLater));
  // A number of any length multiplies for minutes; what the collector does is no business of a state.
  for (const name of ["BigInt", "WeakRef", "FinalizationRegistry", "Iterator"]) {
    delete globalThis[name];
  }
  const iterators = getPrototypeOf(getPrototypeOf([].values()));
  for (const name of ownKeys(iterators)) if (name !== Symbol.iterator) delete iterators[name];
  // Hooks that the context itself keeps: they would outlive the event that set them.
  delete Error.prepareStackTrace;
  delete Error.stackTraceLimit;

  // What takes time by the product of two lengths, or by a length that is only claimed, is held to both
  // before it starts: nothing can end it once it runs.
  const WORK = 100_000_000;
  const LENGTH = 1_000_000;
  const tooMuch = (name) => {
    throw new RangeError(`${name} would go over too much: make it less`);
  };
  for (const name of ["indexOf", "lastIndexOf", "includes", "split", "replace", "replaceAll"]) {
    const native = String.prototype[name];
    put(String.prototype, name, {
      [name](sought, ...more) {
        if (this === undefined || this === null) throw new TypeError(`${name} of nothing`);
        const text = `${this}`;
        const isPlain = typeof sought !== "object" && typeof sought !== "function";
        if (!isPlain && !(sought instanceof RegExp)) sought = `${sought}`;
        if (typeof sought === "string" && text.length * sought.length > WORK) tooMuch(name);
        return apply(native, text, [sought, ...more]);
      },
    }[name]);
  }
  const elementwise = [
    "concat", "copyWithin", "every", "fill", "filter", "find", "findIndex", "findLast", "findLastIndex",
    "forEach", "includes", "indexOf", "join", "lastIndexOf", "map", "reduce", "reduceRight", "reverse",
    "shift", "slice", "some", "sort", "splice", "toReversed", "toSorted", "toSpliced", "unshift", "with",
  ];
  const isLong = (list) => list.length > LENGTH;
  const asArray = (value) => {
    if (!isArray(value)) return [value];
    if (isLong(value)) tooMuch("concat");
    return value;
  };
  for (const name of elementwise) {
    const native = Array.prototype[name];
    put(Array.prototype, name, {
      [name](...more) {
        if (!isArray(this)) throw new TypeError(`${name} is for arrays`);
        if (isLong(this)) tooMuch(name);
        if (name === "concat") more = more.map(asArray);
        return apply(native, this, more);
      },
    }[name]);
  }
  put(Array.prototype, "flat", function flat(depth = 1) {
    const flattened = [];
    const walk = (list, left) => {
      list.forEach((item) => {
        if (left > 0 && isArray(item)) walk(item, left - 1);
        else flattened.push(item);
      });
    };
    walk(this, depth);
    return flattened;
  });
  put(Array.prototype, "flatMap", function flatMap(each, self) {
    return this.map(each, self).flat();
  });

  // What is frozen in a prototype could not be assigned in an object below it: `error.name = "Mine"`.
  for (const prototype of [Object.prototype, Error.prototype]) {
    for (const name of ownKeys(prototype)) {
      const { value, enumerable } = getOwnPropertyDescriptor(prototype, name);
      if (value === undefined) continue;
      const set = function (own) {
        if (this === prototype) throw new TypeError(`${String(name)} is frozen`);
        defineProperty(this, name, { value: own, writable: true, enumerable: true, configurable: true });
      };
      defineProperty(prototype, name, { get: () => value, set, enumerable, configurable: false });
    }
  }
  const hidden = [
    ...functions, functions[1]().__proto__, functions[3]().__proto__, [].values(), "".matchAll(/x/g),
    ""[Symbol.iterator](), new Map().entries(), new Set().entries(), Pledge, Symbol.iterator,
  ];
  const known = new Set();
  const left = [globalThis, ...hidden];
  while (left.length > 0) {
    const value = left.pop();
    if ((typeof value !== "object" && typeof value !== "function") || value === null) continue;
    if (known.has(value)) continue;
    known.add(value);
    left.push(getPrototypeOf(value));
    for (const name of ownKeys(value)) {
      const { value: member, get, set } = getOwnPropertyDescriptor(value, name);
      left.push(member, get, set);
    }
    freeze(value);
  }

  return (make, name) => {
    if (typeof make() !== "function") {
      const parameters = { reduce: "state, event", upcast: "event", decide: "state, command", project: "event", react: "state, event" }[name];
      throw new TypeError(`the source declares no function ${name}(${parameters})`);
    }
    if (name === "upcast") return upcaster(make);
    if (name === "decide") return decider(make);
    if (name === "project") return projection(make);
    if (name === "react") return saga(make);
    return (before, text) => {
      const state = parse(before);
      const told = make()(state, parse(text));
      if (told instanceof Pledge) throw new TypeError(noLater);
      const next = told === undefined ? state : told;
      if (typeof next !== "object" || next === null || isArray(next)) {
        const kind = isArray(next) ? "an array" : next === null ? "null" : `a ${typeof next}`;
        throw new TypeError(`the reducer returned ${kind}: return an object, or nothing and change state`);
      }
      return stringify(next);
    };
  };

  // An event, an array of them, nothing, or what a webhook answers: events or why there are none.
  function decider(make) {
    return (before, text) => {
      const told = make()(parse(before), parse(text));
      if (told instanceof Pledge) throw new TypeError(noLater);
      if (told === undefined || told === null) return stringify({ events: [] });
      if (typeof told !== "object") {
        throw new TypeError(`the decider returned a ${typeof told}: return events, {refuse: "why"} or nothing`);
      }
      const isWhole = !isArray(told) && (told.refuse !== undefined || told.events !== undefined);
      return stringify(isWhole ? told : { events: isArray(told) ? told : [told] });
    };
  }

  // Nothing and null mean that the event changes no row. What is no plain value is its JSON.
  function projection(make) {
    const wrong = "the projection returned something else than {sql, params}, a list of them or nothing";
    const isObject = (value) => typeof value === "object" && value !== null && !isArray(value);
    const plain = (value) => {
      if (value === undefined) return null;
      return typeof value === "object" && value !== null ? stringify(value) : value;
    };
    return (text) => {
      const told = make()(parse(text));
      if (told instanceof Pledge) throw new TypeError(noLater);
      const list = told === undefined || told === null ? [] : isArray(told) ? told : [told];
      const statements = [];
      for (let at = 0; at < list.length; at++) {
        const one = list[at];
        if (!isObject(one) || typeof one.sql !== "string") throw new TypeError(wrong);
        if (one.params !== undefined && !isObject(one.params)) throw new TypeError(wrong);
        const params = {};
        const given = one.params === undefined ? [] : ownKeys(one.params);
        for (let of = 0; of < given.length; of++) params[given[of]] = plain(one.params[given[of]]);
        statements[at] = { sql: one.sql, params };
      }
      return stringify(statements);
    };
  }

  // What it says of events and timers, beside the state as it left it.
  function saga(make) {
    return (before, text) => {
      const state = parse(before);
      const told = make()(state, parse(text));
      if (told instanceof Pledge) throw new TypeError(noLater);
      if (told === undefined || told === null) return stringify({ state });
      if (typeof told !== "object" || isArray(told)) {
        const kind = isArray(told) ? "an array" : `a ${typeof told}`;
        throw new TypeError(`the saga returned ${kind}: return {events, timers} or nothing, and change state`);
      }
      return stringify({ ...told, state });
    };
  }

  // Null drops the event, an array makes several of it, nothing means the event as it was left.
  function upcaster(make) {
    return (text) => {
      const event = parse(text);
      const told = make()(event);
      if (told instanceof Pledge) throw new TypeError(noLater);
      const left = told === undefined ? event : told;
      const events = left === null ? [] : isArray(left) ? left : [left];
      for (let at = 0; at < events.length; at++) {
        const one = events[at];
        if (typeof one !== "object" || one === null || isArray(one)) {
          throw new TypeError("the upcaster returned something else than an event, a list of events or null");
        }
      }
      return stringify(events);
    };
  }
})()
