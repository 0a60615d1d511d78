// What tests/bench/run asks of Fastify: node fastify.js PORT STATIC REDIS-PORT VERSION
"use strict";
const [port, files, redis, version] = process.argv.slice(2);
const app = require("fastify")({ logger: false });

const text = (body) => (request, reply) => {
  reply.type("text/plain").send(body);
};

const user = {
  type: "object",
  properties: { id: { type: "string" }, name: { type: "string" } },
};
const order = {
  type: "object",
  required: ["customer", "lines"],
  properties: {
    customer: { type: "string" },
    lines: {
      type: "array",
      items: {
        type: "object",
        properties: {
          item: { type: "string" },
          count: { type: "integer" },
          price: { type: "number" },
          gift: { type: "boolean" },
          note: { type: "string" },
        },
      },
    },
  },
};

let served = 0;

async function users(scope) {
  scope.addHook("onRequest", (request, reply, done) => {
    reply.header("X-Served-By", "bench");
    done();
  });
  scope.addHook("onRequest", (request, reply, done) => {
    if (request.headers["x-key"] !== "moon") {
      reply.code(401).send("send X-Key");
      return;
    }
    done();
  });
  scope.addHook("onResponse", (request, reply, done) => {
    served++;
    done();
  });
  scope.get("/users/:id", { schema: { response: { 200: user } } },
    (request, reply) => { reply.send({ id: request.params.id, name: "Anna" }); });
}

async function limited(scope) {
  await scope.register(require("@fastify/rate-limit"), { max: 1, timeWindow: "1 hour" });
  scope.get("/refused", text("passed"));
}

async function sessions(scope) {
  const client = require("redis").createClient({ url: `redis://127.0.0.1:${redis}` });
  await client.connect();
  app.addHook("onClose", () => client.quit());
  const { RedisStore } = require("connect-redis");
  await scope.register(require("@fastify/cookie"));
  await scope.register(require("@fastify/session"), {
    secret: "a secret of thirty-two bytes ...",
    cookieName: "sid",
    cookie: { secure: false },
    saveUninitialized: false,
    store: new RedisStore({ client, ttl: 1800 }),
  });
  scope.get("/login", (request, reply) => {
    request.session.user = "anna";
    reply.type("text/plain").send("welcome");
  });
  scope.get("/session", (request, reply) => {
    request.session.count = (request.session.count || 0) + 1;
    reply.type("text/plain").send(request.session.user);
  });
  scope.get("/count", (request, reply) => {
    reply.type("text/plain").send(String(request.session.count));
  });
}

app.get("/text", text("Hello, World!"));
app.get("/big", text("x".repeat(65536)));
app.get("/version", text(version));
app.register(users);
app.post("/echo", { schema: { body: order, response: { 200: order } } },
  (request, reply) => { reply.send(request.body); });
app.register(limited);
app.register(require("@fastify/static"), { root: files, prefix: "/static/" });
if (redis !== "0") app.register(sessions);

process.on("SIGTERM", () => app.close().then(() => process.exit(0)));
app.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 }).catch((error) => {
  console.error(error);
  process.exit(1);
});
