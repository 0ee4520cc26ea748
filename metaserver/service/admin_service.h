// AdminService over gRPC: what operators and the CSI controller ask (proto/admin.proto).
//
// Calls run on gRPC's threads and may wait for the log.
#pragma once

#include "metaserver/service/group_admin.h"
#include "metaserver/service/node_admin.h"
#include "metaserver/service/service_context.h"
#include "proto/admin.grpc.pb.h"

namespace tarn::meta {

// Thread-safe.
class AdminServiceImpl final : public proto::AdminService::Service {
 public:
  // The context outlives the service.
  explicit AdminServiceImpl(ServiceContext* context) : context_(context), nodes_(context), groups_(context) {}

  grpc::Status Status(grpc::ServerContext* call, const proto::StatusRequest* request,
                      proto::StatusReply* reply) override;
  grpc::Status CreateVolume(grpc::ServerContext* call, const proto::CreateVolumeRequest* request,
                            proto::VolumeReply* reply) override;
  grpc::Status DeleteVolume(grpc::ServerContext* call, const proto::DeleteVolumeRequest* request,
                            proto::VolumeReply* reply) override;
  grpc::Status ResizeVolume(grpc::ServerContext* call, const proto::ResizeVolumeRequest* request,
                            proto::VolumeReply* reply) override;
  grpc::Status GetVolume(grpc::ServerContext* call, const proto::GetVolumeRequest* request,
                         proto::GetVolumeReply* reply) override;
  grpc::Status ListVolumes(grpc::ServerContext* call, const proto::ListVolumesRequest* request,
                           proto::ListVolumesReply* reply) override;

  grpc::Status Backup(grpc::ServerContext* call, const proto::BackupRequest* request,
                      grpc::ServerWriter<proto::BackupPiece>* pieces) override;
  grpc::Status Fsck(grpc::ServerContext* call, const proto::FsckRequest* request,
                    grpc::ServerWriter<proto::FsckEvent>* events) override;
  grpc::Status SetReclaim(grpc::ServerContext* call, const proto::SetReclaimRequest* request,
                          proto::SetReclaimReply* reply) override;

  grpc::Status ListNodes(grpc::ServerContext* call, const proto::ListNodesRequest* request,
                         proto::ListNodesReply* reply) override;
  grpc::Status DrainNode(grpc::ServerContext* call, const proto::DrainNodeRequest* request,
                         proto::DrainNodeReply* reply) override;
  grpc::Status UncordonNode(grpc::ServerContext* call, const proto::UncordonNodeRequest* request,
                            proto::UncordonNodeReply* reply) override;
  grpc::Status RetireTarget(grpc::ServerContext* call, const proto::RetireTargetRequest* request,
                            proto::RetireTargetReply* reply) override;
  grpc::Status RemoveNode(grpc::ServerContext* call, const proto::RemoveNodeRequest* request,
                          proto::RemoveNodeReply* reply) override;
  grpc::Status ListGroups(grpc::ServerContext* call, const proto::ListGroupsRequest* request,
                          proto::ListGroupsReply* reply) override;
  grpc::Status PromoteMember(grpc::ServerContext* call, const proto::PromoteMemberRequest* request,
                             proto::PromoteMemberReply* reply) override;
  grpc::Status StartScrub(grpc::ServerContext* call, const proto::StartScrubRequest* request,
                          proto::StartScrubReply* reply) override;
  grpc::Status ScrubStatus(grpc::ServerContext* call, const proto::ScrubStatusRequest* request,
                           proto::ScrubStatusReply* reply) override;

 private:
  tarn::Status StreamBackup(grpc::ServerContext* call, grpc::ServerWriter<proto::BackupPiece>* pieces) const;
  tarn::Status FillStatus(proto::StatusReply* reply) const;
  void FillSpace(const proto::ClusterMap& map, proto::SpaceProgress* space) const;
  grpc::Status ChangeVolume(proto::Mutation mutation, proto::VolumeReply* reply);

  ServiceContext* const context_;
  const NodeAdmin nodes_;
  const GroupAdmin groups_;
};

}  // namespace tarn::meta
