// Reads a range of a chunk from the members of its group (docs/replication.md, "A read"). Internal to the chunk client.
//
// One member is asked: one on this client's node, else one chosen by session and chunk. Before a member on another node an
// elastic target is asked, once, if a copy of this generation will do (docs/elastic.md). If it fails, the next one is
// asked at once; if it is slow, another one as well, and the first good answer counts. The usual answer is received
// straight into the caller's memory; a second request has memory of its own, and when that one wins, the first is
// withdrawn before its memory is filled. A member whose bytes do not match their sums is asked to check and repair them
// after another one has answered.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "client/data/chunk_operation.h"
#include "common/base/buffer.h"

namespace tarn::client {

// All steps but the first happen on one loop's thread.
class ReadOperation final : public ChunkOperation, public SlowRead {
 public:
  ReadOperation(std::shared_ptr<ChunkClient::Core> core, const ChunkReference& chunk, uint64_t offset,
                std::span<uint8_t> destination, StatusCallback done);

  void Attempt() override;
  void CheckSlow(int64_t now_ns) override;

 private:
  // A request under way to one member.
  struct Call {
    bool active = false;
    bool elastic = false;  // not a member: any answer but a good one means that a member is asked
    bool verify = false;  // asks for a check at the source
    bool primary_is_silent = false;  // or slow: the member is to answer without its primary
    size_t member = 0;               // of the group, as it was when it was asked
    uint32_t number = 0;  // of all calls of this operation: tells a late answer
    Route route;
    std::shared_ptr<ChunkServer> server;
    std::shared_ptr<ServerLink> link;
    std::shared_ptr<rpc::FrameClient> client;
    std::span<uint8_t> place;  // the destination, or `own`
    Buffer own;
    int64_t sent_ns = 0;
  };
  // What is known of a member, once there is something bad to know.
  struct MemberNotes {
    TargetId target;
    uint32_t bad_answers = 0;
    bool given_up = false;  // has no good bytes, or its disk fails
  };
  struct Choice {
    size_t member = 0;
    const GroupMember* elastic = nullptr;  // else: no member, but this target
    std::shared_ptr<ChunkServer> server;   // null: nobody is left
    bool avoided = false;                 // it failed or was silent lately
  };

  // ---- ChunkOperation ----
  void Finish(const Status& status) override;
  std::string Describe() const override;
  rpc::EventLoop* loop() const override { return core_->loops[loop_index_]; }

  // ---- Choosing and asking ----
  // All members may be asked again, as the newest map has them. False: it does not say who; all is as before, last_error_
  // says why.
  bool BeginRound();
  Choice Choose(int64_t now_ns);
  Choice ChooseElastic(int64_t now_ns);
  // Directly; else another one is asked first.
  bool IsReached(const ChunkServer& server) const;
  // True: the request is under way (or already answered: nothing of this object may be touched any more).
  bool Ask(const Choice& choice, int64_t now_ns);
  bool AskNext();
  void Send(Call& call);
  void Watch();
  // It failed, is silent or slow, as others found or this operation does now.
  bool PrimaryLetsWait() const;
  bool has_copies() const { return group_->members.size() > 1; }
  std::optional<uint32_t> ElasticIncarnation(bool elastic) const;

  // ---- Answers ----
  void OnReply(size_t index, uint32_t number, const rpc::Reply& reply);
  // Ok if the bytes and their sums hold.
  Status Check(const rpc::Reply& reply) const;
  void OnGoodBytes(const Call& call, std::span<const uint8_t> payload);
  void OnBadBytes(const Call& call, const Status& why);
  void OnRefusal(const Call& call, const rpc::Reply& reply);
  void OnElasticRefusal(const Call& call, const Status& why);
  void OnStaleEpoch(uint64_t map_version, const Status& why);
  void OnAskPrimary(const Call& call, const Status& why);
  void GiveUpMember(const Call& call, const Status& why);
  // Goes on with another member, or with the next round; not while another request is under way.
  void GoOn(const Status& reason);
  void EndRound(const Status& reason);
  void Withdraw(Call& call);
  void CheckBadMembersAtSource();

  MemberNotes& NotesOf(TargetId target);
  const MemberNotes* FindNotes(TargetId target) const;
  bool AllGivenUp() const;
  size_t ActiveCalls() const { return calls_[0].active + calls_[1].active; }

  const ChunkReference chunk_;
  const uint64_t offset_;
  const std::span<uint8_t> destination_;
  StatusCallback done_;
  const SessionId session_;
  const size_t loop_index_;

  std::shared_ptr<const PlacementRoutes> routes_;
  const GroupRoute* group_ = nullptr;  // of routes_
  std::array<Call, 2> calls_;
  uint32_t calls_made_ = 0;
  bool may_ask_elastic_;  // once
  std::vector<MemberNotes> notes_;
  std::optional<SlowReadWatch::Place> watched_;
  // Of this round.
  int64_t round_began_ns_ = 0;
  uint64_t tried_ = 0;  // a bit for each member
  uint32_t calls_in_round_ = 0;
  int64_t connection_wait_ms_ = 0;            // until a connection may be made
  bool bad_bytes_ = false;                    // from some member
  std::optional<uint64_t> newer_map_wanted_;  // a member says that there is one
};

}  // namespace tarn::client
