// What is done once, under replies that are not: at least one case for every operation that a client may send.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/admin/admin_client.h"
#include "common/base/status.h"
#include "proto/metadata.pb.h"
#include "tests/exactly_once/actor.h"

namespace tarn::testing {

// The actors of a case. The first does what the case is about; the other is somebody else.
struct Cast {
  Actor* actor = nullptr;
  Actor* other = nullptr;
  client::AdminClient* admin = nullptr;  // of the operator
};

// One thread.
class Case {
 public:
  explicit Case(std::string operation) : operation_(std::move(operation)) {}
  virtual ~Case() = default;
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  // As proto::Mutation names it.
  const std::string& operation() const { return operation_; }
  // Before any fault.
  virtual void Prepare(Cast& /*cast*/) {}
  // The one change whose reply is meddled with. Returns when the client has an answer.
  virtual void Act(Cast& cast) = 0;
  // After the faults: what is wrong; empty if it is as if it had been done once.
  virtual std::string Check(Cast& cast) = 0;
  // Of open sessions, what Act adds.
  virtual int sessions_gained() const { return 0; }

 private:
  const std::string operation_;
};

using CasePtr = std::unique_ptr<Case>;

// Names, inodes, data.
std::vector<CasePtr> NamespaceCases();
// Sessions, locks, volumes.
std::vector<CasePtr> SessionCases();

}  // namespace tarn::testing
